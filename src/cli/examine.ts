import type { Connection } from "@temporalio/client";
import { configDigest } from "../config/config-digest.ts";
import type { Config } from "../config/config.ts";
import type { StoreView } from "../client/administration.ts";
import { IMPORT_FAILURES, ImportError, type ImportFailureCode } from "../domain/import-failure.ts";
import { formatBytes } from "../domain/byte-size.ts";
import type { Session } from "./session.ts";

/** What looking at one dependency found. */
export interface Finding {
  readonly check: string;
  readonly ok: boolean;
  readonly detail: string;
  /** Stable code of what is wrong. */
  readonly code: ImportFailureCode | null;
  /** The way out. */
  readonly hint: string | null;
}

/**
 * Looks at everything that imports depend on. One thing that is wrong stops no other look; nothing
 * is changed.
 */
export async function examine(session: Session): Promise<Finding[]> {
  return [
    await look("configuration", async () => examineConfiguration(session)),
    await look("database", () => examineDatabase(session)),
    ...(await examineTemporal(session)),
    ...(await examineHost(session)),
  ];
}

async function look(check: string, work: () => Promise<string>): Promise<Finding> {
  try {
    return { check, ok: true, detail: await work(), code: null, hint: null };
  } catch (error) {
    if (!(error instanceof ImportError)) throw error;
    const { code, message: detail } = error;
    // A hint of the place where it failed knows more than that of a table.
    const isOfTable = error.hint === IMPORT_FAILURES[code].hint;
    const hint = isOfTable ? (WAYS_OUT[code] ?? error.hint) : error.hint;
    return { check, ok: false, detail, code, hint };
  }
}

// The table's hints for these name the command that is running here.
const WAYS_OUT: Readonly<Partial<Record<ImportFailureCode, string>>> = {
  DatabaseUnavailable: "Start Postgres, or correct DATABASE_URL.",
  TemporalUnavailable: "Start the Temporal server, or correct TEMPORAL_ADDRESS.",
};

function examineConfiguration(session: Session): string {
  if (session.config !== undefined) return session.location.configPath ?? "";
  throw notNamed("configuration file", "IMAGE_IMPORT_CONFIG");
}

async function examineDatabase(session: Session): Promise<string> {
  const { databaseUrl } = session.location;
  if (databaseUrl === undefined) throw notNamed("database", "DATABASE_URL");
  const { Database } = await import("../db/connect.ts");
  const { countMissingMigrations, takesWrites } = await import("../db/migration-status.ts");
  const database = new Database({ url: databaseUrl, maxConnections: 1, statementTimeoutMs: 5_000 });
  try {
    const missing = await countMissingMigrations(database);
    const isWritable = await takesWrites(database);
    if (missing === 0 && isWritable) return "answers, up to date";
    if (missing === 0) {
      throw new ImportError("DatabaseUnavailable", "It is read-only, as a standby is", {
        hint: "Let DATABASE_URL lead to the primary, or end the read-only mode; imports wait for it.",
      });
    }
    throw new ImportError("BadConfiguration", `It lacks ${String(missing)} migrations`, {
      hint: "`image-import migrate` brings it up to date.",
    });
  } finally {
    await database.close();
  }
}

async function examineTemporal(session: Session): Promise<Finding[]> {
  const { missingSearchAttributes, withNamespace } = await import("../worker/search-attributes.ts");
  const { temporal } = session.location;
  const { runRetentionOf } = await import("../worker/run-retention.ts");
  const { address = "localhost:7233" } = temporal.connection;
  const within = <T>(work: (connection: Connection, namespace: string) => Promise<T>) =>
    withNamespace(temporal, work);
  const answers = await look("temporal", () =>
    within(async (connection, namespace) => {
      const retentionMs = await runRetentionOf(connection, namespace);
      const kept =
        retentionMs === undefined ? "" : `, keeps runs for ${String(retentionMs / 3_600_000)} h`;
      return `answers at ${address}, namespace ${namespace}${kept}`;
    }),
  );
  if (!answers.ok) return [{ ...answers, detail: `${address}: ${answers.detail}` }];
  return [
    answers,
    await look("search attributes", () =>
      within(async (connection, namespace) => {
        const missing = await missingSearchAttributes(connection, namespace);
        if (missing.length === 0) return "registered";
        throw new ImportError("BadConfiguration", `Not registered: ${missing.join(", ")}`, {
          hint: "`image-import migrate` registers them, and so does a worker that runs, within a minute.",
        });
      }),
    ),
    await look("reconciler", () => within(examineSchedule)),
    await look("worker", () =>
      within((connection, namespace) =>
        examineWorkers(connection, namespace, session.location.configPath),
      ),
    ),
  ];
}

async function examineSchedule(connection: Connection, namespace: string): Promise<string> {
  const { Client } = await import("@temporalio/client");
  const { hasReconcilerSchedule } = await import("../worker/reconcile-schedule.ts");
  if (await hasReconcilerSchedule(new Client({ connection, namespace }))) return "scheduled";
  throw new ImportError("BadConfiguration", "Temporal has no Schedule for it", {
    hint: "`image-import worker` makes it when it starts, and one that runs within a minute.",
  });
}

// Temporal's number for a task queue of workflows, TASK_QUEUE_TYPE_WORKFLOW.
const WORKFLOW_QUEUE = 1;
// A poller that died stays in the list for minutes; one that lives asks again within one.
const SILENT_AFTER_MS = 90_000;

async function examineWorkers(
  connection: Connection,
  namespace: string,
  configPath: string | undefined,
): Promise<string> {
  const { CONTROL_QUEUE } = await import("../workflow/contract.ts");
  const { pollers } = await connection.workflowService.describeTaskQueue({
    namespace,
    taskQueue: { name: CONTROL_QUEUE },
    // The enum is in none of our dependencies.
    // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment
    taskQueueType: WORKFLOW_QUEUE,
  });
  const alive = pollers.filter(
    ({ lastAccessTime }) =>
      Date.now() - Number(lastAccessTime?.seconds ?? 0) * 1000 < SILENT_AFTER_MS,
  );
  const { hasEnded, parseIdentity } = await import("../worker/worker-identity.ts");
  const identities = [...new Set(alive.map(({ identity }) => identity ?? ""))].filter((name) => {
    const worker = parseIdentity(name);
    return worker === undefined || !hasEnded(worker);
  });
  const digest = configPath === undefined ? undefined : configDigest(configPath);
  const others = identities
    .flatMap((name) => parseIdentity(name) ?? [])
    .filter(({ config }) => digest !== undefined && config !== digest);
  if (others.length > 0) {
    const named = others.map(({ process: name, since }) => `${name} (since ${since})`);
    throw new ImportError(
      "BadConfiguration",
      `${named.join(", ")}: runs with another configuration than "${configPath ?? ""}" as it is now`,
      {
        hint: "Start the worker again, or send `npm start` a SIGHUP; if it shall differ, name its configuration with --config.",
      },
    );
  }
  if (identities.length > 0) return `${String(identities.length)} running`;
  throw new ImportError("NotConfigured", `No worker polls the task queue "${CONTROL_QUEUE}"`, {
    hint: "`image-import worker` runs one; imports that were accepted wait for it.",
  });
}

/**
 * Staging area, keys, transforms and stores. That nothing configures them is told once, by the look
 * at the configuration.
 */
async function examineHost(session: Session): Promise<Finding[]> {
  const config = configOf(session);
  if (config === undefined) return [];
  const staging = await look("staging", () => examineStaging(config));
  return [
    staging,
    ...(await examineKeys(config)),
    ...(await examineTransforms(config)),
    ...(await examineStores(session)),
  ];
}

/** What seals the URLs of downloads. */
async function examineKeys({ keyFile }: Config): Promise<Finding[]> {
  if (keyFile === undefined) return [];
  const { SealingKeys } = await import("../sources/sealing-keys.ts");
  const finding = await look("keys", async () => {
    await SealingKeys.read(keyFile);
    return keyFile;
  });
  return [finding];
}

async function examineTransforms({ transforms: settings }: Config): Promise<Finding[]> {
  if (settings.order.length === 0) return [];
  const { Transforms } = await import("../transforms/open-transforms.ts");
  const finding = await look("transforms", async () => {
    const transforms = await Transforms.open(settings);
    await transforms.requireWorking();
    return transforms.names.join(", then ");
  });
  return [finding];
}

function configOf(session: Session): Config | undefined {
  try {
    return session.config;
  } catch (error) {
    if (error instanceof ImportError) return undefined;
    throw error;
  }
}

async function examineStaging({ nodeStagingUri }: Config): Promise<string> {
  const { StagingArea } = await import("../staging/staging-area.ts");
  const staging = await StagingArea.open(nodeStagingUri);
  return `${staging.root}, volume ${staging.node}, ${formatBytes(await staging.freeBytes())} free`;
}

async function examineStores(session: Session): Promise<Finding[]> {
  const stores = await (await session.hostClient()).admin.listStores();
  return stores
    .filter(({ disabled }) => !disabled)
    .map(({ name, works, reason, free_bytes: freeBytes, mark }) => ({
      check: `store ${name}`,
      ok: works === true,
      detail: works === true ? workingDetail(freeBytes, mark) : (reason ?? "does not work"),
      code: works === true ? null : "StoreUnavailable",
      hint: works === true ? null : "Check the path of the store and the rights of this user.",
    }));
}

function workingDetail(freeBytes: number | null, mark: StoreView["mark"]): string {
  const free = freeBytes === null ? "" : `, ${formatBytes(freeBytes)} free`;
  return `works${free}${mark === "none yet" ? ", not marked yet" : ""}`;
}

function notNamed(what: string, variable: string): ImportError {
  return new ImportError(
    "NotConfigured",
    `No ${what}: no stack runs here, and ${variable} is not set`,
  );
}
