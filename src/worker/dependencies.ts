import { WorkflowNotFoundError, type Client } from "@temporalio/client";
import { Attempts } from "../activities/attempts.ts";
import type { Dependencies, NodeDependencies } from "../activities/dependencies.ts";
import { lastFailures } from "../temporal/live-progress.ts";
import { temporalFailure } from "../temporal/temporal-failure.ts";
import type { Config } from "../config/config.ts";
import { packageVersion } from "../config/package-version.ts";
import { Database } from "../db/connect.ts";
import { StoreMarkRecords } from "../db/store-mark-records.ts";
import { VolumeUseRecords } from "../db/volume-use-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import { openWebSource } from "../sources/open-web-source.ts";
import { SealingKeys } from "../sources/sealing-keys.ts";
import { StagingArea } from "../staging/staging-area.ts";
import { Stores } from "../stores/open-stores.ts";
import { Transforms } from "../transforms/open-transforms.ts";
import { rememberSearchAttributes } from "../temporal/search-attributes.ts";

/**
 * Builds the dependencies of the activities of a worker. The caller closes the database.
 *
 * @throws ImportError `BadConfiguration` for a transform that cannot work here, so that the start
 *   reports it, and not the first import
 */
export async function buildDependencies(
  config: Config,
  databaseUrl: string,
  client: Client,
): Promise<Dependencies> {
  const transforms = await Transforms.open(config.transforms);
  await transforms.requireWorking();
  const database = new Database({ url: databaseUrl });
  return {
    database,
    stores: await Stores.open(config.stores, config.defaultStore, new StoreMarkRecords(database)),
    transforms,
    staging: await openStaging(config.nodeStagingUri, new VolumeUseRecords(database)),
    attempts: new Attempts(),
    web: await openWebSource(config.web),
    sealingKeys:
      config.keyFile === undefined ? new SealingKeys() : await SealingKeys.read(config.keyFile),
    publishAtOnceBytes: config.publishAtOnceBytes,
    times: {
      deadlineMs: config.importDeadlineMs,
      heartbeatTimeoutMs: config.heartbeatTimeoutMs,
    },
    idleTimeoutMs: config.idleTimeoutMs,
    verifyOnPublish: config.verifyOnPublish,
    formatPolicy: config.formatPolicy,
    stagingTimeToLiveMs: config.stagingTimeToLiveMs,
    taskTimeToLiveMs: config.taskTimeToLiveMs,
    hashAlgo: config.hashAlgo,
    limits: config.limits,
    version: packageVersion(),
    isRunOpen: (workflowId, runId) => isRunOpen(client, workflowId, runId),
    searchAttributes: rememberSearchAttributes(client.connection, client.options.namespace),
    lastFailuresOf: async (workflowId, runId) =>
      lastFailures(await client.workflow.getHandle(workflowId, runId).describe()),
  };
}

/**
 * Opens the staging area. If its directory cannot be used, returns the reason: the worker runs
 * workflows, and refuses imports.
 *
 * @throws ImportError while the volume is not mounted: the worker does not start, and imports wait
 */
async function openStaging(
  nodeStagingUri: string,
  records: VolumeUseRecords,
): Promise<StagingArea | ImportError> {
  try {
    return await StagingArea.open(nodeStagingUri, records);
  } catch (error) {
    if (error instanceof ImportError && error.code === "BadTaskConfiguration") return error;
    throw error;
  }
}

/** True if these dependencies can serve the bytes of a staging volume. */
export function hasStaging(dependencies: Dependencies): dependencies is NodeDependencies {
  return !(dependencies.staging instanceof ImportError);
}

/**
 * True if a run is open.
 *
 * @param runId - default: the newest run of the workflow id. The reconciler asks about that, not
 *   about the run that took the claim: after a reset the newest run continues with the claim, and a
 *   new import takes it over
 */
async function isRunOpen(client: Client, workflowId: string, runId?: string): Promise<boolean> {
  try {
    const { status } = await client.workflow.getHandle(workflowId, runId).describe();
    return status.name === "RUNNING" || status.name === "PAUSED";
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
    throw temporalFailure(error);
  }
}
