import { prepare } from "../../scripts/prepare.mjs";

/** Processes of our own run from `dist`: brings it up to date before tests that start some. */
export default async function setup(): Promise<void> {
  await prepare();
}
