import { accessSync, constants, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { say } from "./commands.mjs";

/** Where tools that were downloaded or built for this package are kept, for all clones of a user. */
export function cacheDirectory() {
  const base = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  return join(base, "image-import");
}

/** {@link cacheDirectory}, made when it is not there. Ends the process with the way out when this user cannot write it. */
export function makeCacheDirectory() {
  const path = cacheDirectory();
  try {
    mkdirSync(path, { recursive: true });
    accessSync(path, constants.W_OK | constants.X_OK);
    return path;
  } catch (error) {
    say(
      `Cannot write the cache "${path}": ${error.message}. Set XDG_CACHE_HOME to a directory that this user may write`,
    );
    process.exit(1);
  }
}
