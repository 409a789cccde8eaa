import { cancelled, cancellationSignal, heartbeat } from "@temporalio/activity";
import { CancelledFailure } from "@temporalio/common";
import { formatDuration } from "../domain/duration.ts";
import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";
import { Pace } from "../domain/pace.ts";
import type { Report } from "../domain/report.ts";

/**
 * The content of the last heartbeat of a byte step. Users see it in the Web UI of Temporal, and
 * clients in the status of the import.
 */
export interface ByteProgress {
  readonly step: "fetch" | "verify" | "transform" | "digest" | "store" | "confirm";
  readonly store?: string;
  readonly transform?: string;
  readonly doneBytes: number;
  /** Left out if unknown. */
  readonly totalBytes?: number;
  /** Rate over the last ten seconds. Left out until it is known. */
  readonly bytesPerSecond?: number;
  /** Reason for which the step waits. Left out while it does not wait. */
  readonly waitsFor?: string;
}

/** The failure of the last attempt of a step that is being tried again. */
export interface LastFailure {
  /** Activity type of the step. */
  readonly activity: string;
  /** The store, if the step is about one of several. */
  readonly store?: string;
  /** Number of the attempt that failed, from 1 on. */
  readonly attempt: number;
  /** Stable code of the failure, if it has one. */
  readonly type: string;
  readonly message: string;
}

/** The progress of a byte step. */
export interface Progress {
  /** Aborted on cancel, on pause, and when no byte has moved for too long. */
  readonly signal: AbortSignal;
  /** Takes the bytes that are done now, and their total. Default of the total: as it was. */
  readonly report: Report;
  /**
   * Reports that the step waits for something that has time limits of its own, and moves no byte.
   *
   * @param waitsFor - the reason, for users; undefined: the step waits no longer
   */
  readonly showLife: (waitsFor?: string) => void;
}

/** Settings of {@link withProgress}. */
export interface ProgressOptions {
  readonly about: Omit<ByteProgress, "doneBytes">;
  /** Time without a moved byte after which the step fails, in ms. */
  readonly idleTimeoutMs: number;
  /** The failure when nothing moves. */
  readonly idleFailure: ImportFailureCode;
}

// A fifth of the shortest heartbeat timeout that makes sense. The SDK sends only some of them to
// the server.
const HEARTBEAT_EVERY_MS = 500;
// After the last byte come fsync and rename, which report nothing and may flush gigabytes to a slow
// disk.
const IDLE_FACTOR_AFTER_LAST_BYTE = 10;

/**
 * Runs a byte step with heartbeats. They come from a timer and not from the bytes: a slow phase
 * must look alive. A step in which nothing moves must not, so the timer watches the bytes. A file
 * system that hangs cannot be interrupted: then the step ends, and the attempt that takes over
 * deals with the hanging call.
 */
export async function withProgress<T>(
  options: ProgressOptions,
  work: (progress: Progress) => Promise<T>,
): Promise<T> {
  const watch = new ProgressWatch(options);
  try {
    return await Promise.race([work(watch), watch.stalled, cancelledAndHanging()]);
  } catch (error) {
    // Temporal must get its own cancellation, not the error that a stream or a file made of it.
    if (cancellationSignal().aborted) throw await cancellationAt(watch.reached);
    throw error;
  } finally {
    watch.stop();
  }
}

/** The cancellation of this activity, with the bytes at which it stopped. */
async function cancellationAt(reached: ByteProgress | undefined): Promise<unknown> {
  const cancellation = await cancelled().catch((error: unknown) => error);
  if (!(cancellation instanceof CancelledFailure) || reached === undefined) return cancellation;
  return new CancelledFailure(cancellation.message, [reached], cancellation.cause);
}

/** Rejects some time after a cancel that the work did not heed because a call hangs. */
async function cancelledAndHanging(): Promise<never> {
  return cancelled().catch(async (cancellation: unknown) => {
    await new Promise((resolve) => setTimeout(resolve, 5_000).unref());
    throw cancellation;
  });
}

class ProgressWatch implements Progress {
  readonly signal: AbortSignal;
  readonly stalled: Promise<never>;
  readonly #options: ProgressOptions;
  readonly #timer: NodeJS.Timeout;
  readonly #idle = new AbortController();
  #reject: (reason: unknown) => void = () => undefined;
  readonly #pace = new Pace();
  #isReported = false;
  #doneBytes = 0;
  #totalBytes: number | undefined;
  #waitsFor: string | undefined;
  // The wall clock may jump.
  #movedAtMs = performance.now();

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#totalBytes = options.about.totalBytes;
    this.signal = AbortSignal.any([cancellationSignal(), this.#idle.signal]);
    this.stalled = new Promise((_resolve, reject) => {
      this.#reject = reject;
    });
    this.stalled.catch(() => undefined);
    // Not at once: each beat costs the server a write, and most steps on small images are over
    // before the first.
    this.#timer = setInterval(() => {
      this.#beat();
    }, HEARTBEAT_EVERY_MS);
  }

  readonly report = (doneBytes: number, totalBytes = this.#totalBytes): void => {
    this.#isReported = true;
    this.#doneBytes = doneBytes;
    this.#totalBytes = totalBytes;
    this.showLife();
  };

  readonly showLife = (waitsFor?: string): void => {
    this.#waitsFor = waitsFor;
    this.#movedAtMs = performance.now();
  };

  /** The bytes that are done now; undefined before the first report. */
  get reached(): ByteProgress | undefined {
    return this.#isReported ? this.#progress() : undefined;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #progress(): ByteProgress {
    const total = this.#totalBytes === undefined ? {} : { totalBytes: this.#totalBytes };
    return { ...this.#options.about, ...total, doneBytes: this.#doneBytes };
  }

  #beat(): void {
    const { idleTimeoutMs, idleFailure } = this.#options;
    // A resumed copy reports first the bytes that it continues: they have no rate.
    if (this.#isReported) this.#pace.observe(this.#doneBytes, performance.now());
    const { bytesPerSecond } = this.#pace;
    const rate = bytesPerSecond === undefined ? {} : { bytesPerSecond };
    const wait = this.#waitsFor === undefined ? {} : { waitsFor: this.#waitsFor };
    heartbeat({ ...this.#progress(), ...rate, ...wait } satisfies ByteProgress);
    const isPastLastByte = this.#doneBytes >= (this.#totalBytes ?? Infinity);
    const limitMs = idleTimeoutMs * (isPastLastByte ? IDLE_FACTOR_AFTER_LAST_BYTE : 1);
    if (performance.now() - this.#movedAtMs < limitMs) return;
    const failure = new ImportError(
      idleFailure,
      `No byte has moved for ${formatDuration(limitMs)} at byte ${String(this.#doneBytes)} of ${String(this.#totalBytes ?? "an unknown number")}`,
    );
    this.stop();
    this.#idle.abort(failure);
    this.#reject(failure);
  }
}
