import { accessSync, constants, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { say } from "./commands.mjs";
import { messageOf } from "./thrown-error.mjs";

/**
 * The directory of the tools that were downloaded or built for this package, for all clones of a
 * user.
 */
export function cacheDirectory() {
  const base = process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache");
  return join(base, "image-import");
}

/**
 * Makes {@link cacheDirectory} if it does not exist. Ends the process, naming the way out, if this
 * user may not write to it.
 */
export function makeCacheDirectory() {
  const path = cacheDirectory();
  try {
    mkdirSync(path, { recursive: true });
    accessSync(path, constants.W_OK | constants.X_OK);
    return path;
  } catch (error) {
    say(
      `Cannot write to the cache "${path}": ${messageOf(error)}. Set XDG_CACHE_HOME to a directory that this user may write`,
    );
    process.exit(1);
  }
}
