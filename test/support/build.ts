import { prepare } from "../../scripts/prepare.mjs";

/** Processes of our own run from `dist`: brings it up to date before tests that start some. */
export default async function setup(): Promise<void> {
  // The cache of the user is none of the tests' business; those of the cache have one of their own.
  process.env["NODE_DISABLE_COMPILE_CACHE"] = "1";
  await prepare();
}
