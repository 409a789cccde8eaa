import type { LeaseId } from "../db/lease-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import { DoubtfulFailure } from "../transforms/program-failure.ts";

// Enough for the machine to recover, and few because each attempt may take hours.
const MOST_ATTEMPTS = 3;

/**
 * Counts the failures that the machine or the image may have caused, by the lease of the
 * product. They are counted here, not by Temporal: its number of the attempt counts every other
 * failure, too.
 */
export class Doubts {
  readonly #counts = new Map<string, number>();

  /**
   * Runs an attempt. If it is the third one that fails doubtfully, the image counts as the cause.
   *
   * @throws ImportError as the attempt does; instead of the third doubtful failure, the lasting one
   */
  async settle<T>({ imageId, epoch, place }: LeaseId, attempt: () => Promise<T>): Promise<T> {
    const key = [imageId, epoch, place].join("/");
    try {
      const result = await attempt();
      this.#counts.delete(key);
      return result;
    } catch (error) {
      throw error instanceof ImportError ? this.#judged(key, error) : error;
    }
  }

  #judged(key: string, error: ImportError): ImportError {
    const count = (this.#counts.get(key) ?? 0) + (error instanceof DoubtfulFailure ? 1 : 0);
    const isOver = count >= MOST_ATTEMPTS || !error.retryable;
    if (isOver || count === 0) this.#counts.delete(key);
    else this.#counts.set(key, count);
    return isOver && error instanceof DoubtfulFailure ? error.lasting : error;
  }
}
