import { writeSync } from "node:fs";

/**
 * Writes the URL of an ES module to stdout before it is loaded.
 *
 * @type {import("node:module").LoadHook}
 */
export async function load(url, context, next) {
  writeSync(1, `${url}\n`);
  return next(url, context);
}
