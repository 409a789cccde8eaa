import { stageData } from "#dist/client/stage-image.js";
import { Database } from "#dist/db/connect.js";
import { NO_LIMITS } from "#dist/domain/quota.js";
import { StagingArea } from "#dist/staging/staging-area.js";
import { printOutcome } from "./print-outcome.mjs";

// Stages the first MiB of a file, and waits for the bandwidth of the rest, which takes days.

const { databaseUrl, stagingUri, imageId, path } = JSON.parse(process.argv[2] ?? "");
/** @type {import("#dist/client/stage-image.js").StagingTools} */
const tools = {
  database: new Database({ url: databaseUrl }),
  staging: await StagingArea.open(stagingUri),
  hashAlgo: "sha512",
  timeToLiveMs: 60_000,
  bandwidthLimit: 1,
  limits: NO_LIMITS,
};
await printOutcome("staged", stageData(tools, imageId, path, {}));
