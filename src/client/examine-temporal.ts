import { Client, type Connection } from "@temporalio/client";
import type { TemporalAddress } from "../config/temporal-address.ts";
import { ImportError } from "../domain/import-failure.ts";
import { hasReconcilerSchedule } from "../temporal/reconcile-schedule.ts";
import { runRetentionOf } from "../temporal/run-retention.ts";
import { missingSearchAttributes } from "../temporal/search-attributes.ts";
import { withNamespace } from "../temporal/with-namespace.ts";
import { examineWorkers } from "./examine-workers.ts";
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
