import { stat } from "node:fs/promises";
import { hasErrorCode } from "../bytes/system-error.ts";
import { findQuotaLeft, growReservation } from "../db/quota-records.ts";
import type { ProductId } from "../db/product-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { NodeDependencies } from "./dependencies.ts";

// A transform writes by itself, perhaps in another process: how far it is can only be looked at.
const LOOK_EVERY_MS = 1_000;

/**
 * Reserves room in the owner's quotas for a product while it grows, as far as it can be seen from
 * outside. One that grows beyond them is stopped.
 */
export class ProductRoom implements AsyncDisposable {
  /** As much as quotas and the cap leave when the transform begins. */
  readonly maxBytes: number;
  /** Aborted when there is no more room. */
  readonly signal: AbortSignal;
  readonly #dependencies: Pick<NodeDependencies, "database" | "limits">;
  readonly #product: ProductId;
  readonly #path: string;
  readonly #besideBytes: number;
  readonly #stop = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #reserving: Promise<void> = Promise.resolve();

  private constructor(
    dependencies: Pick<NodeDependencies, "database" | "limits">,
    product: ProductId,
    path: string,
    besideBytes: number,
    maxBytes: number,
  ) {
    this.#dependencies = dependencies;
    this.#product = product;
    this.#path = path;
    this.#besideBytes = besideBytes;
    this.maxBytes = maxBytes;
    this.signal = this.#stop.signal;
    let isReserving = false;
    this.#timer = setInterval(() => {
      if (isReserving) return;
      isReserving = true;
      this.#reserving = this.reserve()
        .catch((error: unknown) => {
          // A catalogue that is away for a moment is no reason to throw hours of work away.
          if (!(error instanceof ImportError && error.retryable)) this.#stop.abort(error);
        })
        .finally(() => {
          isReserving = false;
        });
    }, LOOK_EVERY_MS);
  }

  /**
   * @param besideBytes - what the product before this one has in staging as long as this one is
   *   made of it
   * @throws ImportError `ImportLost`
   */
  static async hold(
    dependencies: Pick<NodeDependencies, "database" | "limits">,
    product: ProductId,
    path: string,
    besideBytes: number,
  ): Promise<ProductRoom> {
    const { database, limits } = dependencies;
    const maxBytes = await database.transaction((db) => findQuotaLeft(db, limits, product));
    // Whoever limits a program by it takes a number.
    const countable = Math.min(maxBytes, Number.MAX_SAFE_INTEGER);
    return new ProductRoom(dependencies, product, path, besideBytes, countable);
  }

  /**
   * Reserves room for what is there now.
   *
   * @throws ImportError `ImageTooLarge`, `QuotaExceeded`, `ImportLost`
   */
  async reserve(): Promise<void> {
    const { database, limits } = this.#dependencies;
    const imageBytes = await sizeOf(this.#path);
    if (imageBytes === 0) return;
    const productBytes = imageBytes + this.#besideBytes;
    await database.transaction((db) =>
      growReservation(db, limits, this.#product, { imageBytes, productBytes }),
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
