import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Client } from "@temporalio/client";
import { NativeConnection, Worker, type Logger, type WorkerOptions } from "@temporalio/worker";
import {
  createByteActivities,
  createControlActivities,
  createCleanUpActivities,
} from "../activities/index.ts";
import { sweepNode } from "../activities/sweep-node.ts";
import type { Config } from "../config/config.ts";
import type { TemporalAddress } from "../config/temporal-address.ts";
import { STAGING_LEASE_SECONDS } from "../db/lease-records.ts";
import { byteQueue, CONTROL_QUEUE, cleanUpQueue } from "../workflow/contract.ts";
import type { Dependencies, NodeDependencies } from "../activities/dependencies.ts";
import { identityOf } from "../temporal/worker-identity.ts";
import { buildDependencies, hasStaging } from "./dependencies.ts";
import { Gauges } from "./gauges.ts";
import { stepInterceptors } from "./log-attributes.ts";
import { runTogether } from "./run-together.ts";
import { stepMetrics } from "./step-metrics.ts";
import { TemporalUpkeep } from "./temporal-upkeep.ts";
import { UploadUpkeep } from "./upload-upkeep.ts";
import { WorkerHealth } from "./worker-health.ts";

/** The addresses that a worker serves. */
export interface WorkerAddresses {
  /** URL of `/livez` and `/readyz`, without a path. */
  readonly health_url: string;
  /** URL of the metrics. */
  readonly metrics_url: string;
}

/** Settings of a worker. */
export interface WorkerSettings {
  readonly config: Config;
  readonly databaseUrl: string;
  readonly temporal: TemporalAddress;
  readonly logger: Logger;
  /** URL of the metrics, which the runtime serves already. */
  readonly metricsUrl: string;
  /** The file of the configuration: its digest becomes part of the worker's name in Temporal. */
  readonly configPath: string | undefined;
  /** Called once the worker polls for work. */
  readonly onReady: (addresses: WorkerAddresses) => void;
}

/**
 * The workflows, bundled when the software was built; else bundled from their folder at start,
 * which takes seconds.
 */
export function workflowSource(): Pick<WorkerOptions, "workflowBundle" | "workflowsPath"> {
  const codePath = fileURLToPath(new URL("../workflow-bundle.js", import.meta.url));
  return existsSync(codePath)
    ? { workflowBundle: { codePath } }
    : { workflowsPath: fileURLToPath(new URL("../workflow", import.meta.url)) };
}

/**
 * Runs a worker until a signal stops it: workflows, catalogue steps, and the bytes of
 * its staging volume.
 */
export async function runWorker(settings: WorkerSettings): Promise<void> {
  const { config, logger } = settings;
  await using health = await WorkerHealth.open(config.health);
  const identity = identityOf(settings.configPath ?? "", health.url);
  health.nameIt(identity);
  const connection = await NativeConnection.connect(settings.temporal.connection);
  const client = new Client({ connection, namespace: settings.temporal.namespace });
  const dependencies = await buildDependencies(config, settings.databaseUrl, client);
  const { namespace } = settings.temporal;
  const upkeep = new TemporalUpkeep(client, namespace, config.reconcileEveryMs, logger);
  const gauges = new Gauges({ client, dependencies, health, logger });
  try {
    health.watch({ databaseUrl: settings.databaseUrl, connection, client, ...dependencies });
    await prepareStores(dependencies, logger);
    await upkeep.start();
    const workers = await createWorkers({ ...settings, identity }, connection, dependencies);
    const sweeping = hasStaging(dependencies) ? sweepAtStart(dependencies, logger) : undefined;
    const uploads = hasStaging(dependencies)
      ? new UploadUpkeep({ client, dependencies, logger })
      : undefined;
    uploads?.start();
    if (!hasStaging(dependencies)) {
      logger.error("Cannot serve a staging area; imports are refused", {
        error: dependencies.staging,
        nodeStagingUri: config.nodeStagingUri,
      });
    }
    await runTogether(workers, {
      onRunning: () => {
        health.follow(workers);
        gauges.start();
        settings.onReady({ health_url: health.url, metrics_url: settings.metricsUrl });
      },
      onEnding: () => {
        sweeping?.stop();
        uploads?.stop();
        upkeep.stop();
      },
    });
  } finally {
    gauges.stop();
    upkeep.stop();
    await dependencies.database.close();
    await closeConnection(connection, logger);
  }
}

/**
 * Closes the connection. A failure is only logged: a worker that was made, and never ran because
 * the start failed, holds the connection, and the failure of the start must be the one to report.
 */
async function closeConnection(connection: NativeConnection, logger: Logger): Promise<void> {
  try {
    await connection.close();
  } catch (error) {
    logger.warn("Cannot close the connection to Temporal; it ends with this process", { error });
  }
}

// A store that answers at all does so within a few round trips.
const STORE_PATIENCE_MS = 5_000;

/**
 * Makes the directories and marks of stores that were never used, and logs the stores that do not
 * work.
 *
 * @throws ImportError for a store that never worked: a worker does not start with such a
 *   configuration
 */
async function prepareStores({ stores }: Dependencies, logger: Logger): Promise<void> {
  const unready = await stores.prepare(STORE_PATIENCE_MS);
  for (const { failure, neverWorked } of unready.values()) if (neverWorked) throw failure;
  for (const [store, { failure }] of unready) {
    const { code, message, hint } = failure;
    logger.error("A store does not work; its copies wait until it does", {
      store,
      code,
      reason: message,
      hint,
    });
  }
}

async function createWorkers(
  { config, temporal, identity }: WorkerSettings & { readonly identity: string },
  connection: NativeConnection,
  dependencies: Dependencies,
): Promise<Worker[]> {
  const activity = [stepMetrics, stepInterceptors];
  const common = {
    connection,
    namespace: temporal.namespace,
    interceptors: { activity },
    identity,
    // Short steps finish within this time. A long copy is stopped after it, and resumes at the next
    // start.
    shutdownGraceTime: "5s",
    shutdownForceTime: "15s",
    // A cancel arrives with the answer to a heartbeat, and so at most a second late.
    maxHeartbeatThrottleInterval: "1s",
  } as const;
  const workers = [
    await Worker.create({
      ...common,
      ...workflowSource(),
      taskQueue: CONTROL_QUEUE,
      activities: createControlActivities(dependencies),
      maxConcurrentActivityTaskExecutions: 16,
      // By default a workflow waits 10 s for the dead worker that had it before another one may
      // continue: too long for a cancel, a pause and a look at its status.
      stickyQueueScheduleToStartTimeout: "2s",
    }),
  ];
  if (!hasStaging(dependencies)) return workers;
  const { node } = dependencies.staging;
  workers.push(
    await Worker.create({
      ...common,
      taskQueue: byteQueue(node),
      activities: createByteActivities(dependencies),
      maxConcurrentActivityTaskExecutions: config.byteSlots,
    }),
    await Worker.create({
      ...common,
      taskQueue: cleanUpQueue(node),
      activities: createCleanUpActivities(dependencies),
      maxConcurrentActivityTaskExecutions: 8,
    }),
  );
  return workers;
}

/**
 * Sweeps now, and once more later: the lease of an upload whose process died just before this start
 * has run out then.
 */
function sweepAtStart(dependencies: NodeDependencies, logger: Logger): { stop(): void } {
  const sweep = async (): Promise<void> => {
    try {
      const swept = await sweepNode(dependencies);
      if (swept.staged + swept.parts > 0)
        logger.info("Removed bytes that no import owns", { ...swept });
    } catch (error) {
      logger.warn("Cannot sweep the staging area; the reconciler continues", { error });
    }
  };
  void sweep();
  const again = setTimeout(() => void sweep(), (STAGING_LEASE_SECONDS + 2) * 1000);
  return {
    stop: () => {
      clearTimeout(again);
    },
  };
}
