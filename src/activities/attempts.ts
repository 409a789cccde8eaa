import { setTimeout as sleep } from "node:timers/promises";
import { activityInfo } from "@temporalio/activity";
import type { LeaseId } from "../db/lease-records.ts";
import { livenessOf, thisProcess, type ProcessIdentity } from "../processes/process-identity.ts";
import { isLater, type AttemptOrder } from "../domain/attempt-order.ts";
import { ImportError } from "../domain/import-failure.ts";
import { describeLease } from "../domain/place.ts";

interface Attempt {
  readonly order: AttemptOrder | null;
  readonly abort: AbortController;
  readonly ended: Promise<unknown>;
}

/** Settings of {@link Attempts}. */
export interface AttemptsOptions {
  /**
   * Time to wait until an aborted attempt has stopped, in ms. It stops after a block at most,
   * unless a call of the file system hangs. Default: 5 s.
   */
  readonly patienceMs?: number;
}

/**
 * State of the earlier attempts with the same key: all have stopped writing, or one did not end in
 * time.
 */
export type Previous = "over" | "hanging";

/** The place of this activity among all attempts of its import. */
export function currentAttempt(): AttemptOrder {
  const { workflowExecution, activityId, attempt, currentAttemptScheduledTimestampMs } =
    activityInfo();
  return {
    run: workflowExecution?.runId ?? "",
    // The SDK counts the steps of a run; an id that is not a number has no order.
    activity: Number(activityId) || 0,
    attempt,
    scheduledAtMs: currentAttemptScheduledTimestampMs,
  };
}

/**
 * The key of the attempts that write at one place, for {@link Attempts.run}. All products of an
 * import have one key: its transforms run one after another.
 */
export function attemptKey(lease: LeaseId): string {
  const what = lease.place.startsWith("product/")
    ? `the products of image "${lease.imageId}"`
    : describeLease(lease);
  return `${what} (epoch ${String(lease.epoch)})`;
}

/**
 * Makes sure that an attempt is not late: no running attempt may be a later one.
 *
 * @throws ImportError `AttemptOvertaken`
 */
function requireNotLate(held: AttemptOrder | null, attempt: AttemptOrder, what: string): void {
  if (!isLater(held, attempt)) return;
  throw new ImportError(
    "AttemptOvertaken",
    `Cannot continue with ${what}: a later attempt (${String(held?.attempt)}) took it over from this one (${String(attempt.attempt)})`,
  );
}

/**
 * The attempts that run in this process, by the place that they write. Temporal may start a second
 * attempt while the first one still runs (it missed a heartbeat); the second one ends the first
 * before it touches anything. A late attempt begins after its successor did, and ends none.
 */
export class Attempts {
  readonly #patienceMs: number;
  readonly #running = new Map<string, Set<Attempt>>();

  constructor({ patienceMs = 5_000 }: AttemptsOptions = {}) {
    this.#patienceMs = patienceMs;
  }

  /**
   * Ends the attempts that have this key now, including one that was given up because it hangs.
   *
   * @param order - the place of the undo among the attempts. Later attempts continue. Default: all
   *   attempts are ended
   * @returns "over" when no ended attempt writes any more, "hanging" when one did not end in time
   */
  async end(key: string, order?: AttemptOrder): Promise<Previous> {
    const running = [...(this.#running.get(key) ?? [])];
    const earlier = running.filter((each) => order === undefined || !isLater(each.order, order));
    return this.#endAll(key, earlier);
  }

  /**
   * Runs an attempt under this key, after it has ended those before it.
   *
   * @param work - its signal is aborted when another attempt takes over
   * @param order - the place of this attempt among all. Default: null, no attempt is late
   * @throws ImportError `AttemptOvertaken` when a later attempt runs here already
   */
  async run<T>(
    key: string,
    work: (signal: AbortSignal, previous: Previous) => Promise<T>,
    order: AttemptOrder | null = null,
  ): Promise<T> {
    const before = [...(this.#running.get(key) ?? [])];
    if (order !== null) for (const each of before) requireNotLate(each.order, order, key);
    const abort = new AbortController();
    // Added to the set before it waits: the next attempt must wait for this one, too.
    const result = this.#endAll(key, before).then((previous) => {
      abort.signal.throwIfAborted();
      return work(abort.signal, previous);
    });
    const attempt: Attempt = { order, abort, ended: result.catch(() => undefined) };
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
    const overtaken = new ImportError("AttemptOvertaken", `Another attempt took over ${key}`);
    for (const { abort } of attempts) abort.abort(overtaken);
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
 * True if the writer that holds a lease is known to be dead or ended.
 *
 * @param previous - the state of the earlier attempts in this process
 */
export async function isOver(writer: ProcessIdentity, previous: Previous): Promise<boolean> {
  const here = await thisProcess();
  const isHere =
    writer.pid === here.pid &&
    writer.startTicks === here.startTicks &&
    writer.bootId === here.bootId &&
    writer.pidNamespace === here.pidNamespace;
  return isHere ? previous === "over" : (await livenessOf(writer)) === "dead";
}
