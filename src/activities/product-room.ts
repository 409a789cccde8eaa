import { stat } from "node:fs/promises";
import { hasErrorCode } from "../bytes/system-error.ts";
import { findQuotaLeft, growReservation } from "../db/quota-records.ts";
import type { ImportId } from "../db/claim-guard.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { patiently } from "./patiently.ts";
import type { Progress } from "./progress.ts";

// A transform may write in another process: only the size of its file shows how far it is.
const LOOK_EVERY_MS = 1_000;

/**
 * Reserves room in the owner's quotas for a product while it grows. A transform whose product
 * exceeds the quotas is stopped.
 */
export class ProductRoom implements AsyncDisposable {
  /** Bytes that quotas and the cap leave when the transform begins. */
  readonly maxBytes: number;
  /** Aborted when there is no more room, or when the import has lost its claim. */
  readonly signal: AbortSignal;
  readonly #dependencies: Pick<NodeDependencies, "database" | "limits">;
  readonly #claim: ImportId;
  readonly #path: string;
  readonly #besideBytes: number;
  readonly #stop = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #reserving: Promise<void> = Promise.resolve();

  private constructor(
    dependencies: Pick<NodeDependencies, "database" | "limits">,
    claim: ImportId,
    path: string,
    besideBytes: number,
    maxBytes: number,
  ) {
    this.#dependencies = dependencies;
    this.#claim = claim;
    this.#path = path;
    this.#besideBytes = besideBytes;
    this.maxBytes = maxBytes;
    this.signal = this.#stop.signal;
    let isReserving = false;
    this.#timer = setInterval(() => {
      if (isReserving) return;
      isReserving = true;
      this.#reserving = sizeOf(path)
        .then((imageBytes) => this.#reserve(imageBytes))
        .catch((error: unknown) => {
          // The product may be the work of hours: keep it while the catalogue is unreachable.
          if (!(error instanceof ImportError && error.retryable)) this.#stop.abort(error);
        })
        .finally(() => {
          isReserving = false;
        });
    }, LOOK_EVERY_MS);
  }

  /**
   * @param besideBytes - bytes of the previous product, which stays in staging until this one is
   *   complete
   * @throws ImportError `ImportLost`
   */
  static async hold(
    dependencies: Pick<NodeDependencies, "database" | "limits">,
    claim: ImportId,
    path: string,
    besideBytes: number,
  ): Promise<ProductRoom> {
    const { database, limits } = dependencies;
    const maxBytes = await database.transaction((db) => findQuotaLeft(db, limits, claim));
    // A limit of a program must be a finite number.
    const countable = Math.min(maxBytes, Number.MAX_SAFE_INTEGER);
    return new ProductRoom(dependencies, claim, path, besideBytes, countable);
  }

  /**
   * Reserves room for the finished product; waits while the catalogue is unreachable.
   *
   * @throws ImportError `ImageTooLarge`, `QuotaExceeded`, `ImportLost`
   */
  async reserveAll(progress: Progress): Promise<void> {
    const imageBytes = await sizeOf(this.#path);
    await patiently(progress, () => this.#reserve(imageBytes));
  }

  async #reserve(imageBytes: number): Promise<void> {
    const { database, limits } = this.#dependencies;
    if (imageBytes === 0) return;
    const productBytes = imageBytes + this.#besideBytes;
    await database.transaction((db) =>
      growReservation(db, limits, this.#claim, { imageBytes, productBytes }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#reserving;
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return 0;
    throw error;
  }
}
