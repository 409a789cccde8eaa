/** Bytes between two syncs: 128 MiB. Long runs for the disk, and little left for the last sync. */
const EVERY_BYTES = 128 * 1024 * 1024;

/**
 * Syncs a file now and then while it is being written. The last sync then has little left to do;
 * otherwise it would wait for all bytes while nothing else happens. One sync runs at a time, and
 * the writing does not wait for it.
 */
export class WriteBehind {
  readonly #sync: () => Promise<void>;
  #unsyncedBytes = 0;
  #syncing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  /** @param sync - makes the bytes written so far durable */
  constructor(sync: () => Promise<void>) {
    this.#sync = sync;
  }

  /**
   * Counts bytes that were written, and begins a sync after every 128 MiB.
   *
   * @throws the failure of an earlier sync: its bytes may be lost, even if a later sync succeeds
   */
  wrote(lengthBytes: number): void {
    this.#throwFailure();
    this.#unsyncedBytes += lengthBytes;
    if (this.#unsyncedBytes < EVERY_BYTES || this.#syncing !== undefined) return;
    this.#unsyncedBytes = 0;
    this.#syncing = this.#sync()
      .catch((error: unknown) => {
        this.#failure = { error };
      })
      .finally(() => {
        this.#syncing = undefined;
      });
  }

  /** Waits until no sync runs. @throws the failure of a sync */
  async end(): Promise<void> {
    await this.#syncing;
    this.#throwFailure();
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
