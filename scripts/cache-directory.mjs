import { homedir } from "node:os";
import { join } from "node:path";

/** Where tools that were downloaded or built for this package are kept, for all clones of a user. */
export function cacheDirectory() {
  const base = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  return join(base, "image-import");
}
