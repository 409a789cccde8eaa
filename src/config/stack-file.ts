import { chmodSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

/** The programs of a stack, in the order in which they start. */
export const STACK_PROGRAMS = ["postgres", "temporal", "worker", "api"] as const;

/** One program of a stack. */
export type StackProgram = (typeof STACK_PROGRAMS)[number];

const processId = z.number().int().positive();
const startTime = z.number().int().nonnegative();

/** A number of each program, or null. A program that the file does not name does not run. */
function ofEachProgram(number: z.ZodNumber) {
  const one = number.nullable().default(null);
  return z.object({ postgres: one, temporal: one, worker: one, api: one });
}

/** The addresses that a worker serves; null while it is not ready. */
export const workerAddresses = z.object({
  /** URL of its `/livez` and `/readyz`, without a path. */
  health_url: z.string().nullable().default(null),
  /** URL of its metrics. */
  metrics_url: z.string().nullable().default(null),
});

/** The addresses that a worker serves. */
export type WorkerAddresses = Readonly<z.infer<typeof workerAddresses>>;

const stackFile = workerAddresses.extend({
  /** `ready` once the worker polls and the API listens; `stopping` once the stack begins to end. */
  state: z.enum(["starting", "ready", "stopping"]),
  /** The boot of the machine to which the process ids belong: after another boot they are void. */
  boot_id: z.string(),
  /** The process that supervises the others; `start_time` in clock ticks since boot. */
  supervisor: z.object({ pid: processId, start_time: startTime }),
  /**
   * Process ids; null while a program does not run, for example between its death and its next
   * start.
   */
  pids: ofEachProgram(processId),
  /**
   * The start times of `pids`, in clock ticks since boot. Process id and start time together
   * identify one process.
   */
  start_times: ofEachProgram(startTime),
  /** The address of the catalogue's database, with its password. */
  database_url: z.string(),
  /** Host and port of Temporal's frontend. */
  temporal_address: z.string(),
  /** The Temporal namespace that imports run in. */
  temporal_namespace: z.string(),
  /** Address of Temporal's Web UI. */
  web_ui: z.string(),
  /** Address of the HTTP API; null in the file of a version without one. */
  api_url: z.string().nullable().default(null),
  /** Path of the configuration file of the worker and the API. */
  config: z.string(),
  /** Path of the directory with all data of the stack. */
  data_dir: z.string(),
});

/** The description of a stack in `<data dir>/stack.json`. */
export type StackFile = Readonly<z.infer<typeof stackFile>>;

/** Path of the file that describes the stack on `dataDir`. */
export function stackFilePath(dataDir: string): string {
  return join(dataDir, "stack.json");
}

/**
 * Reads the description of the stack on `dataDir`. The file does not prove that the stack runs: a
 * killed one leaves it behind.
 *
 * @returns undefined when there is no file
 * @throws Error when the file is not a stack file
 */
export function readStackFile(dataDir: string): StackFile | undefined {
  const path = stackFilePath(dataDir);
  const text = readIfThere(path);
  if (text === undefined) return undefined;
  const parsed = stackFile.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  throw new Error(
    `Cannot read "${path}": ${z.prettifyError(parsed.error)}. Stop the stack that wrote it, delete the file, and start again`,
  );
}

/**
 * Replaces the stack file of `file.data_dir` atomically: a reader sees the old one or the new one.
 */
export function writeStackFile(file: StackFile): void {
  const path = stackFilePath(file.data_dir);
  // Synchronous: a new process of the stack must be in the file before anything else happens.
  writeFileSync(`${path}.new`, `${JSON.stringify(file, null, 2)}\n`, { mode: 0o600 });
  chmodSync(`${path}.new`, 0o600);
  renameSync(`${path}.new`, path);
}

/** Removes the stack file, if there is one. */
export function removeStackFile(dataDir: string): void {
  rmSync(stackFilePath(dataDir), { force: true });
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
