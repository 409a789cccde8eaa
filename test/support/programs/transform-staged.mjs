import { Attempts } from "#dist/activities/attempts.js";
import { transformStagedActivities } from "#dist/activities/transform-staged.js";
import { Database } from "#dist/db/connect.js";
import { NO_LIMITS } from "#dist/domain/quota.js";
import { StagingArea } from "#dist/staging/staging-area.js";
import { loadTransform } from "#dist/transforms/load-transform.js";
import { Transforms } from "#dist/transforms/open-transforms.js";
import { printOutcome } from "./print-outcome.mjs";
import { runActivity } from "./run-activity.mjs";

/** @typedef {import("#dist/activities/dependencies.js").NodeDependencies} NodeDependencies */

// Runs a transform of a user's own.

const { databaseUrl, stagingUri, order, module } = JSON.parse(process.argv[2] ?? "");
// The dependencies that the step uses.
const dependencies = /** @type {NodeDependencies} */ ({
  database: new Database({ url: databaseUrl }),
  staging: await StagingArea.open(stagingUri),
  transforms: Transforms.of([await loadTransform(module)]),
  limits: NO_LIMITS,
  attempts: new Attempts(),
  idleTimeoutMs: 60_000,
  stagingTimeToLiveMs: 60_000,
});
const steps = transformStagedActivities(dependencies);
const work = runActivity(() => steps.transformStaged(order));
await printOutcome("transformed", work);
