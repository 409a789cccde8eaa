import type { Connection } from "@temporalio/client";
import { configDigest } from "../config/config-digest.ts";
import { packageVersion } from "../config/package-version.ts";
import { formatDuration } from "../domain/duration.ts";
import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";
import { hasEnded, parseIdentity, type WorkerIdentity } from "../temporal/worker-identity.ts";
import { CONTROL_QUEUE } from "../workflow/contract.ts";
import { askWorker, type WorkerAnswer } from "./ask-worker.ts";

// Temporal's number for a task queue of workflows, TASK_QUEUE_TYPE_WORKFLOW.
const WORKFLOW_QUEUE = 1;
// The server lists a dead poller for minutes; a live one polls again within one minute.
const SILENT_AFTER_MS = 90_000;

/** A worker that Temporal lists and that may still run. */
interface ListedWorker {
  readonly name: string;
  /** Undefined for a worker of another version. */
  readonly identity: WorkerIdentity | undefined;
  readonly lastSeenMs: number;
  readonly answer: WorkerAnswer;
}

/**
 * Checks the workers that poll: that there is one, that all run with this configuration and this
 * version, and that all are ready.
 *
 * @param configPath - the configuration with which workers should run; undefined if unknown
 * @returns the names and the states of the workers
 * @throws ImportError for the first of these conditions that is not met
 */
export async function examineWorkers(
  connection: Connection,
  namespace: string,
  configPath: string | undefined,
): Promise<string> {
  const workers = await listWorkers(connection, namespace);
  if (workers.length === 0) throw noWorker();
  requireSettings(workers, configPath);
  requireVersion(workers);
  requireReady(workers);
  return `${String(workers.length)} running: ${workers.map(described).join(", ")}`;
}

/** The workers that poll, without those that are known to have ended. */
async function listWorkers(connection: Connection, namespace: string): Promise<ListedWorker[]> {
  const { pollers } = await connection.workflowService.describeTaskQueue({
    namespace,
    taskQueue: { name: CONTROL_QUEUE },
    // The enum is in none of our dependencies.
    // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment
    taskQueueType: WORKFLOW_QUEUE,
  });
  const lastSeen = new Map<string, number>();
  for (const { identity, lastAccessTime } of pollers) {
    const seenMs = Number(lastAccessTime?.seconds ?? 0) * 1000;
    if (Date.now() - seenMs >= SILENT_AFTER_MS) continue;
    const name = identity ?? "";
    lastSeen.set(name, Math.max(seenMs, lastSeen.get(name) ?? 0));
  }
  const asked = [...lastSeen].map(async ([name, lastSeenMs]) => {
    const identity = parseIdentity(name);
    return { name, identity, lastSeenMs, answer: await answerOf(name, identity) };
  });
  return (await Promise.all(asked)).filter(({ answer }) => answer.state !== "gone");
}

async function answerOf(name: string, identity: WorkerIdentity | undefined): Promise<WorkerAnswer> {
  if (identity === undefined) return { state: "silent", isHere: false };
  return hasEnded(identity) ? { state: "gone" } : askWorker(name, identity);
}

function noWorker(): ImportError {
  return new ImportError("NotConfigured", `No worker polls the task queue "${CONTROL_QUEUE}"`, {
    hint: "Start one with `image-import worker`; accepted imports wait for it.",
  });
}

function requireSettings(workers: readonly ListedWorker[], configPath: string | undefined): void {
  const identities = workers.flatMap(({ identity }) => identity ?? []);
  const digest = configPath === undefined ? undefined : configDigest(configPath);
  const others = identities.filter(({ config }) => digest !== undefined && config !== digest);
  if (others.length > 0) {
    throw new ImportError(
      "BadConfiguration",
      `${named(others)}: runs with another configuration than the current "${configPath ?? ""}"`,
      {
        hint: "Restart the worker, or send `npm start` a SIGHUP. If the worker should have another configuration, name that file with --config.",
      },
    );
  }
  if (new Set(identities.map(({ config }) => config)).size <= 1) return;
  throw new ImportError(
    "BadConfiguration",
    `The workers run with different configurations: ${named(identities)}`,
    { hint: "Give all workers the same configuration, and restart those that have another one." },
  );
}

function named(identities: readonly WorkerIdentity[]): string {
  return identities.map(({ process: name, since }) => `${name} (since ${since})`).join(", ");
}

function requireVersion(workers: readonly ListedWorker[]): void {
  const version = packageVersion();
  const others = workers.flatMap(({ name, identity }) =>
    identity?.version === version
      ? []
      : [`${identity?.process ?? name}: ${identity?.version ?? "another version"}`],
  );
  if (others.length === 0) return;
  throw new ImportError(
    "BadConfiguration",
    `A worker runs another version than this command, ${version}: ${others.join(", ")}`,
    {
      hint: "Stop the workers of the old version, run `image-import migrate`, and start new ones.",
    },
  );
}

function requireReady(workers: readonly ListedWorker[]): void {
  for (const { name, identity, answer, lastSeenMs } of workers) {
    const worker = identity?.process ?? name;
    if (answer.state === "silent" && answer.isHere) {
      throw new ImportError(
        "TemporalUnavailable",
        `The worker ${worker} does not answer at ${identity?.healthUrl ?? ""}; it polled last ${ago(lastSeenMs)}`,
        { hint: "Look into its log, and restart it; accepted imports wait for it." },
      );
    }
    if (answer.state !== "not ready") continue;
    const reasons = answer.failing.map(
      ({ check, since, reason }) => `${check} (since ${since}): ${reason}`,
    );
    const why = reasons.length === 0 ? "" : `; ${reasons.join("; ")}`;
    const first = answer.failing[0]?.check ?? "";
    throw new ImportError(
      CODES[first] ?? "TemporalUnavailable",
      `The worker ${worker} is ${answer.status}${why}`,
      { hint: "Repair what the worker has lost; it continues automatically." },
    );
  }
}

const CODES: Readonly<Record<string, ImportFailureCode>> = {
  postgres: "DatabaseUnavailable",
  temporal: "TemporalUnavailable",
  staging: "StagingUnavailable",
};

function described({ name, identity, lastSeenMs, answer }: ListedWorker): string {
  const state = answer.state === "ready" ? "ready" : "health unknown";
  return `${identity?.process ?? name} (${state}, polled ${ago(lastSeenMs)})`;
}

function ago(timeMs: number): string {
  return `${formatDuration(Math.max(0, Date.now() - timeMs))} ago`;
}
