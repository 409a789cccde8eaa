import { Attempts } from "#dist/activities/attempts.js";
import { fetchImageActivities } from "#dist/activities/fetch-image.js";
import { Database } from "#dist/db/connect.js";
import { NO_LIMITS } from "#dist/domain/quota.js";
import { SealingKeys } from "#dist/sources/sealing-keys.js";
import { WebSource } from "#dist/sources/web-source.js";
import { StagingArea } from "#dist/staging/staging-area.js";
import { printOutcome } from "./print-outcome.mjs";
import { runActivity } from "./run-activity.mjs";

/** @typedef {import("#dist/activities/dependencies.js").NodeDependencies} NodeDependencies */

// Downloads an image.

const { databaseUrl, stagingUri, web, order } = JSON.parse(process.argv[2] ?? "");
// The dependencies that the step uses.
const dependencies = /** @type {NodeDependencies} */ ({
  database: new Database({ url: databaseUrl }),
  staging: await StagingArea.open(stagingUri),
  web: new WebSource(web),
  sealingKeys: new SealingKeys(),
  limits: NO_LIMITS,
  attempts: new Attempts(),
  hashAlgo: "sha512",
  stagingTimeToLiveMs: 60_000,
  idleTimeoutMs: 60_000,
});
const steps = fetchImageActivities(dependencies);
const work = runActivity(() => steps.fetchImage(order));
await printOutcome("fetched", work);
