import {
  removeStackFile,
  stackFilePath,
  writeStackFile,
  type StackFile,
  type StackProgram,
  type WorkerAddresses,
} from "../config/stack-file.ts";
import { findProcess, readBootId, type LocalProcess } from "../processes/process-table.ts";

/** The part of a stack file that stays the same from the start to the end of a stack. */
export type StackAddresses = Pick<
  StackFile,
  | "database_url"
  | "temporal_address"
  | "temporal_namespace"
  | "web_ui"
  | "api_url"
  | "config"
  | "data_dir"
>;

/** The addresses of a worker that does not run. */
const NO_ADDRESSES: WorkerAddresses = { health_url: null, metrics_url: null };

/** No program runs. */
const NONE = { postgres: null, temporal: null, worker: null, api: null };

/** Keeps the stack file up to date while this process runs the stack. */
export class StackRecord {
  readonly #log: (line: string) => void;
  #file: StackFile;
  /** True if the file is older than what this process knows. */
  #isOutdated = false;

  /**
   * Writes the first stack file: the state is `starting`, and no program runs.
   *
   * @param log - takes the failure of a later write: the programs run on without it
   */
  constructor(addresses: StackAddresses, log: (line: string) => void) {
    this.#log = log;
    const supervisor = findProcess(process.pid);
    this.#file = {
      state: "starting",
      boot_id: readBootId(),
      supervisor: { pid: process.pid, start_time: supervisor?.startTicks ?? 0 },
      pids: NONE,
      start_times: NONE,
      ...NO_ADDRESSES,
      ...addresses,
    };
    writeStackFile(this.#file);
  }

  /** Records that a program runs as this process, or that it does not run. */
  setProcess(program: StackProgram, identity: LocalProcess | undefined): void {
    const { pids, start_times: startTimes } = this.#file;
    const isGone = program === "worker" && identity === undefined;
    this.#change({
      ...(isGone ? NO_ADDRESSES : {}),
      pids: { ...pids, [program]: identity?.pid ?? null },
      start_times: { ...startTimes, [program]: identity?.startTicks ?? null },
    });
  }

  /** Records the addresses of the worker that became ready last. */
  setWorkerAddresses(addresses: WorkerAddresses): void {
    this.#change(addresses);
  }

  /** Records the state of the stack. */
  setState(state: StackFile["state"]): void {
    this.#change({ state });
  }

  /** Removes the file, once no program runs. */
  remove(): void {
    removeStackFile(this.#file.data_dir);
  }

  /** Writes the file again if the last write failed. */
  catchUp(): void {
    if (this.#isOutdated) this.#write();
  }

  #change(change: Partial<StackFile>): void {
    this.#file = { ...this.#file, ...change };
    this.#write();
  }

  #write(): void {
    try {
      writeStackFile(this.#file);
      this.#isOutdated = false;
    } catch (error) {
      if (!this.#isOutdated) this.#log(cannotWrite(this.#file.data_dir, error));
      this.#isOutdated = true;
    }
  }
}

function cannotWrite(dataDir: string, error: unknown): string {
  const reason = error instanceof Error ? error.message : String(error);
  const path = stackFilePath(dataDir);
  return `Cannot write "${path}": ${reason}. Commands see the earlier state until this works again.`;
}
