import { Client, type Connection } from "@temporalio/client";
import { configDigest } from "../config/config-digest.ts";
import type { TemporalAddress } from "../config/temporal-address.ts";
import { ImportError } from "../domain/import-failure.ts";
import { hasReconcilerSchedule } from "../temporal/reconcile-schedule.ts";
import { runRetentionOf } from "../temporal/run-retention.ts";
import { missingSearchAttributes } from "../temporal/search-attributes.ts";
import { withNamespace } from "../temporal/with-namespace.ts";
import { hasEnded, parseIdentity } from "../temporal/worker-identity.ts";
import { CONTROL_QUEUE } from "../workflow/contract.ts";
import { runCheck, type Finding } from "./finding.ts";

/**
 * Checks the Temporal server, what imports need in its namespace, and the workers that poll.
 *
 * @param configPath - the configuration with which workers should run; undefined if unknown
 */
export async function examineTemporal(
  temporal: TemporalAddress,
  configPath: string | undefined,
): Promise<Finding[]> {
  const { address = "localhost:7233" } = temporal.connection;
  const server = await runCheck("temporal", () =>
    withNamespace(temporal, async (connection, namespace) => {
      const retentionMs = await runRetentionOf(connection, namespace);
      const kept =
        retentionMs === undefined ? "" : `, keeps runs for ${String(retentionMs / 3_600_000)} h`;
      return `answers at ${address}, namespace ${namespace}${kept}`;
    }),
  );
  if (!server.ok) return [{ ...server, detail: `${address}: ${server.detail}` }];
  return [
    server,
    await runCheck("search attributes", () => withNamespace(temporal, examineSearchAttributes)),
    await runCheck("reconciler", () => withNamespace(temporal, examineSchedule)),
    await runCheck("worker", () =>
      withNamespace(temporal, (connection, namespace) =>
        examineWorkers(connection, namespace, configPath),
      ),
    ),
  ];
}

async function examineSearchAttributes(connection: Connection, namespace: string): Promise<string> {
  const missing = await missingSearchAttributes(connection, namespace);
  if (missing.length === 0) return "registered";
  throw new ImportError("BadConfiguration", `Not registered: ${missing.join(", ")}`, {
    hint: "`image-import migrate` registers them, and a running worker does so within a minute.",
  });
}

async function examineSchedule(connection: Connection, namespace: string): Promise<string> {
  if (await hasReconcilerSchedule(new Client({ connection, namespace }))) return "scheduled";
  throw new ImportError("BadConfiguration", "Temporal has no Schedule for it", {
    hint: "`image-import worker` creates it at its start, and a running worker does so within a minute.",
  });
}

// Temporal's number for a task queue of workflows, TASK_QUEUE_TYPE_WORKFLOW.
const WORKFLOW_QUEUE = 1;
// The server lists a dead poller for minutes; a live one polls again within one minute.
const SILENT_AFTER_MS = 90_000;

async function examineWorkers(
  connection: Connection,
  namespace: string,
  configPath: string | undefined,
): Promise<string> {
  const identities = await identitiesOf(connection, namespace);
  const digest = configPath === undefined ? undefined : configDigest(configPath);
  const others = identities
    .flatMap((name) => parseIdentity(name) ?? [])
    .filter(({ config }) => digest !== undefined && config !== digest);
  if (others.length > 0) {
    const named = others.map(({ process: name, since }) => `${name} (since ${since})`);
    throw new ImportError(
      "BadConfiguration",
      `${named.join(", ")}: runs with another configuration than the current "${configPath ?? ""}"`,
      {
        hint: "Restart the worker, or send `npm start` a SIGHUP. If the worker should have another configuration, name that file with --config.",
      },
    );
  }
  if (identities.length > 0) return `${String(identities.length)} running`;
  throw new ImportError("NotConfigured", `No worker polls the task queue "${CONTROL_QUEUE}"`, {
    hint: "Start one with `image-import worker`; accepted imports wait for it.",
  });
}

/** The names of the workers that poll and, if they run on this host, still run. */
async function identitiesOf(connection: Connection, namespace: string): Promise<string[]> {
  const { pollers } = await connection.workflowService.describeTaskQueue({
    namespace,
    taskQueue: { name: CONTROL_QUEUE },
    // The enum is in none of our dependencies.
    // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment
    taskQueueType: WORKFLOW_QUEUE,
  });
  const polling = pollers.filter(
    ({ lastAccessTime }) =>
      Date.now() - Number(lastAccessTime?.seconds ?? 0) * 1000 < SILENT_AFTER_MS,
  );
  return [...new Set(polling.map(({ identity }) => identity ?? ""))].filter((name) => {
    const worker = parseIdentity(name);
    return worker === undefined || !hasEnded(worker);
  });
}
