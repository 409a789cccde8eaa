/** Long runs for the disk, and little left for the last sync: 128 MiB. */
const EVERY_BYTES = 128 * 1024 * 1024;

/**
 * Lets the disk begin while bytes are still being written, so that the last sync has little left to
 * do: it would wait for all of them otherwise, with nothing else going on. One sync at a time; the
 * writing does not wait for it.
 */
export class WriteBehind {
  readonly #sync: () => Promise<void>;
  #unsyncedBytes = 0;
  #syncing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  /** @param sync - makes durable what was written so far */
  constructor(sync: () => Promise<void>) {
    this.#sync = sync;
  }

  /**
   * So many more bytes were written.
   *
   * @throws what a sync has failed with: what it did not write may be lost, whatever a later one
   *   says
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

  /** Waits until no sync runs. @throws what one has failed with */
  async end(): Promise<void> {
    await this.#syncing;
    this.#throwFailure();
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
