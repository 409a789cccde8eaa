import { publishImageActivities } from "#dist/activities/publish-image.js";
import { Database } from "#dist/db/connect.js";
import { StoreMarkRecords } from "#dist/db/store-mark-records.js";
import { StagingArea } from "#dist/staging/staging-area.js";
import { Stores } from "#dist/stores/open-stores.js";
import { printOutcome } from "./print-outcome.mjs";
import { runActivity } from "./run-activity.mjs";

/** @typedef {import("#dist/activities/dependencies.js").NodeDependencies} NodeDependencies */

// Publishes a small image.

const { databaseUrl, stagingUri, settings, order } = JSON.parse(process.argv[2] ?? "");
const database = new Database({ url: databaseUrl });
const [firstStore = ""] = Object.keys(settings);
// The dependencies that the step uses.
const dependencies = /** @type {NodeDependencies} */ ({
  database,
  stores: await Stores.open(settings, firstStore, new StoreMarkRecords(database)),
  staging: await StagingArea.open(stagingUri),
  taskTimeToLiveMs: 60_000,
});
const steps = publishImageActivities(dependencies);
const work = runActivity(() => steps.publishImage(order));
await printOutcome("published", work);
