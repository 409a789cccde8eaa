import { chmodSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

/** The programs of a stack, in the order in which they start. */
export const STACK_PROGRAMS = ["postgres", "temporal", "worker"] as const;

/** One program of a stack. */
export type StackProgram = (typeof STACK_PROGRAMS)[number];

const processId = z.number().int().positive();
const startTime = z.number().int().nonnegative();

const stackFile = z.object({
  /** `ready` once the worker polls; `starting` before; `stopping` from the first Ctrl-C on. */
  state: z.enum(["starting", "ready", "stopping"]),
  /** Which boot of the machine the process ids belong to: after another boot they mean nothing. */
  boot_id: z.string(),
  /** The process that watches the others; `start_time` in clock ticks since boot. */
  supervisor: z.object({ pid: processId, start_time: startTime }),
  /**
   * Process ids; null while a program does not run, between its death and its next start for
   * instance.
   */
  pids: z.record(z.enum(STACK_PROGRAMS), processId.nullable()),
  /**
   * When each of `pids` started, in clock ticks since boot: with it a process id names one process
   * for good.
   */
  start_times: z.record(z.enum(STACK_PROGRAMS), startTime.nullable()),
  /** The whole address of the catalogue's database, password included. */
  database_url: z.string(),
  /** Host and port of Temporal's frontend. */
  temporal_address: z.string(),
  /** The Temporal namespace that imports run in. */
  temporal_namespace: z.string(),
  /** Address of Temporal's Web UI. */
  web_ui: z.string(),
  /** Path of the configuration file that the worker runs with. */
  config: z.string(),
  /** Path under which all data of the stack lies. */
  data_dir: z.string(),
});

/** What a running stack tells about itself in `<data dir>/stack.json`. */
export type StackFile = Readonly<z.infer<typeof stackFile>>;

/** Path of the file in which the stack on `dataDir` tells about itself. */
export function stackFilePath(dataDir: string): string {
  return join(dataDir, "stack.json");
}

/**
 * Reads what the stack on `dataDir` tells about itself. A file that is there does not prove that
 * the stack runs: a killed one leaves it behind.
 *
 * @returns undefined when there is none
 * @throws Error when the file is there and is no stack file
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
 * Replaces the stack file of `file.data_dir` in one step: a reader sees the old one or the new one.
 */
export function writeStackFile(file: StackFile): void {
  const path = stackFilePath(file.data_dir);
  // Synchronous, so that no process of ours runs for long without standing in the file.
  writeFileSync(`${path}.new`, `${JSON.stringify(file, null, 2)}\n`, { mode: 0o600 });
  chmodSync(`${path}.new`, 0o600);
  renameSync(`${path}.new`, path);
}

/** Removes the stack file; does nothing when there is none. */
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
