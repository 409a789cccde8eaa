import { setTimeout as sleep } from "node:timers/promises";
import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";

/** Options of {@link whileUnreachable}. */
export interface WaitOptions {
  /** The codes with which the work fails while the other side is unreachable. */
  readonly codes: readonly ImportFailureCode[];
  /** Default: no limit. */
  readonly giveUpAfterMs?: number;
  readonly signal: AbortSignal;
  /** Called once, before the first wait. */
  readonly onWait?: (failure: ImportError) => void;
}

// A restarted server answers within seconds.
const RETRY_EVERY_MS = 1_000;

/**
 * Repeats the work while the other side is unreachable.
 *
 * @throws the failure of the work, if it has another code or the time is over; the reason of the
 *   signal once it is aborted
 */
export async function whileUnreachable<T>(
  work: () => Promise<T>,
  { codes, giveUpAfterMs = Infinity, signal, onWait }: WaitOptions,
): Promise<T> {
  const giveUpAtMs = performance.now() + giveUpAfterMs;
  for (let isFirst = true; ; isFirst = false) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof ImportError && codes.includes(error.code))) throw error;
      if (performance.now() > giveUpAtMs) throw error;
      if (isFirst) onWait?.(error);
      await sleep(RETRY_EVERY_MS, undefined, { signal }).catch(() => undefined);
      signal.throwIfAborted();
    }
  }
}
