import { execFileSync } from "node:child_process";

/**
 * Put before a command so that file permissions hold for it. The superuser's do not, so it gives up
 * just that; the files of a clone that lies below a directory of its own stay within its reach.
 */
export const WITH_PERMISSIONS: readonly string[] =
  process.getuid?.() === 0 ? ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] : [];

/** True if that is possible here. */
export const MAY_DROP_RIGHTS = mayDropRights();

function mayDropRights(): boolean {
  try {
    execFileSync("/usr/bin/env", [...WITH_PERMISSIONS, "true"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
