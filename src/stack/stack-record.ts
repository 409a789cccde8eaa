import {
  removeStackFile,
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
  #file: StackFile;

  /** Writes the first stack file: the state is `starting`, and no program runs. */
  constructor(addresses: StackAddresses) {
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

  #change(change: Partial<StackFile>): void {
    this.#file = { ...this.#file, ...change };
    writeStackFile(this.#file);
  }
}
