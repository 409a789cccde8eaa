import { once } from "node:events";
import { Attempts } from "#dist/activities/attempts.js";
import { storeImageActivities } from "#dist/activities/store-image.js";
import { Database } from "#dist/db/connect.js";
import { StoreMarkRecords } from "#dist/db/store-mark-records.js";
import { StagingArea } from "#dist/staging/staging-area.js";
import { Stores } from "#dist/stores/open-stores.js";
import { HeldCopies } from "../held-copies.mjs";
import { printOutcome } from "./print-outcome.mjs";
import { runActivity } from "./run-activity.mjs";

/** @typedef {import("#dist/activities/dependencies.js").NodeDependencies} NodeDependencies */

// Copies into a store. With `isHeld` the copy waits in the middle of its bytes until this process
// reads a byte from stdin.

const { databaseUrl, stagingUri, settings, order, isHeld } = JSON.parse(process.argv[2] ?? "");
const database = new Database({ url: databaseUrl });
const stores = await Stores.open(settings, order.store, new StoreMarkRecords(database));
if (isHeld) {
  const held = HeldCopies.in(stores, order.store);
  void once(process.stdin, "data").then(() => {
    held.release();
  });
}
// The dependencies that the step uses.
const dependencies = /** @type {NodeDependencies} */ ({
  database,
  stores,
  staging: await StagingArea.open(stagingUri),
  attempts: new Attempts(),
  idleTimeoutMs: 60_000,
});
const steps = storeImageActivities(dependencies);
const work = runActivity(() => steps.storeImage(order));
await printOutcome("stored", work);
