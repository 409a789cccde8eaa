import { setTimeout as sleep } from "node:timers/promises";
import { isRunning, thisProcess, type ProcessIdentity } from "../bytes/process-identity.ts";

interface Attempt {
  readonly abort: AbortController;
  readonly ended: Promise<unknown>;
}

/** Settings of {@link Attempts}. */
export interface AttemptsOptions {
  /**
   * How long to wait for an attempt that is ended, in ms. It stops within a block; longer than this it hangs in a call
   * to the file system, and can't be waited for. Default: 5 s.
   */
  readonly patienceMs?: number;
}

/** Whether those who had the key before surely write no more, or could not be waited for. */
export type Previous = "over" | "hanging";

/**
 * The attempts that run in this process, by what they write. Temporal may start a second attempt while the first one
 * still runs (it missed a heartbeat); the second one ends the first before it touches anything.
 */
export class Attempts {
  readonly #patienceMs: number;
  readonly #running = new Map<string, Set<Attempt>>();

  constructor({ patienceMs = 5_000 }: AttemptsOptions = {}) {
    this.#patienceMs = patienceMs;
  }

  /**
   * Ends all attempts that have this key now, also one that was given up because it hangs.
   *
   * @returns "over" when surely nobody of this process writes there any more, "hanging" when one would not end
   */
  async end(key: string): Promise<Previous> {
    return this.#endAll(key, [...(this.#running.get(key) ?? [])]);
  }

  /**
   * Runs an attempt under this key, after it has ended those before it.
   *
   * @param work - its signal is aborted when another attempt takes over in turn
   */
  async run<T>(
    key: string,
    work: (signal: AbortSignal, previous: Previous) => Promise<T>,
  ): Promise<T> {
    const before = [...(this.#running.get(key) ?? [])];
    const abort = new AbortController();
    // In the set before it waits: whoever comes next must wait for this one, too.
    const result = this.#endAll(key, before).then((previous) => {
      abort.signal.throwIfAborted();
      return work(abort.signal, previous);
    });
    const attempt: Attempt = { abort, ended: result.catch(() => undefined) };
    this.#add(key, attempt);
    try {
      return await result;
    } finally {
      this.#remove(key, attempt);
    }
  }

  #add(key: string, attempt: Attempt): void {
    const attempts = this.#running.get(key) ?? new Set();
    this.#running.set(key, attempts.add(attempt));
  }

  #remove(key: string, attempt: Attempt): void {
    const attempts = this.#running.get(key);
    attempts?.delete(attempt);
    if (attempts?.size === 0) this.#running.delete(key);
  }

  async #endAll(key: string, attempts: readonly Attempt[]): Promise<Previous> {
    if (attempts.length === 0) return "over";
    for (const { abort } of attempts) abort.abort(new Error(`Another attempt took over ${key}`));
    const patience = new AbortController();
    const ended = await Promise.race([
      Promise.all(attempts.map((attempt) => attempt.ended)).then(() => "over" as const),
      sleep(this.#patienceMs, "hanging" as const, { signal: patience.signal }),
    ]);
    patience.abort();
    return ended;
  }
}

/**
 * Whether a writer that holds a lease surely writes no more.
 *
 * @param previous - what became of the attempts of this process
 */
export async function isOver(writer: ProcessIdentity, previous: Previous): Promise<boolean> {
  const here = await thisProcess();
  const isHere =
    writer.pid === here.pid &&
    writer.startTicks === here.startTicks &&
    writer.bootId === here.bootId &&
    writer.pidNamespace === here.pidNamespace;
  return isHere ? previous === "over" : (await isRunning(writer)) === "dead";
}
