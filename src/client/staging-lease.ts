import type { Database } from "../db/connect.ts";
import { growStaging, keepStaging, renewStaging } from "../db/upload-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Limits } from "../domain/quota.ts";
import { whileUnreachable } from "./while-unreachable.ts";

// A quarter of the time after which another process may take over.
const RENEW_EVERY_MS = 5_000;
// The default of `idle_timeout`. The upload waits that long, because a stream cannot be read a
// second time.
const CATALOGUE_PATIENCE_MS = 60_000;

/** Settings of a {@link StagingLease}. */
export interface StagingLeaseOptions {
  /** Stops the upload. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Renews the lease, or throws `StagingBusy`. Default: as the lease of any upload
   */
  readonly renew?: () => Promise<unknown>;
  /** Default: 5 s. */
  readonly renewEveryMs?: number;
}

/**
 * Renews the lease of an upload, and stops the upload if the lease is lost.
 *
 * @internal
 */
export class StagingLease {
  readonly #database: Database;
  readonly #limits: Limits;
  readonly #imageId: string;
  readonly #token: string;
  readonly #lost = new AbortController();
  readonly #signal: AbortSignal;
  readonly #renewEveryMs: number;
  readonly #keep: () => Promise<unknown>;
  readonly #renew: () => Promise<unknown>;

  constructor(
    { database, limits }: { readonly database: Database; readonly limits: Limits },
    imageId: string,
    token: string,
    { signal, renew, renewEveryMs = RENEW_EVERY_MS }: StagingLeaseOptions,
  ) {
    this.#database = database;
    this.#limits = limits;
    this.#imageId = imageId;
    this.#token = token;
    this.#renewEveryMs = renewEveryMs;
    this.#keep = renew ?? (() => database.renewal((db) => keepStaging(db, imageId, token)));
    this.#renew = renew ?? (() => database.query((db) => renewStaging(db, imageId, token)));
    this.#signal =
      signal === undefined ? this.#lost.signal : AbortSignal.any([signal, this.#lost.signal]);
  }

  /** @throws ImportError `StagingBusy` if another process took over */
  async renew(): Promise<void> {
    await this.#renew();
  }

  /** Renews {@link patiently}. */
  async renewPatiently(): Promise<void> {
    await this.patiently(() => this.renew());
  }

  /** Reserves room for more bytes, see `RoomAhead`, {@link patiently}. */
  async grow(growth: { imageBytes: number; welcomeBytes: number }): Promise<number> {
    const stager = { imageId: this.#imageId, token: this.#token };
    return this.patiently(() =>
      this.#database.transaction((db) => growStaging(db, this.#limits, stager, growth)),
    );
  }

  /**
   * Waits for an unreachable database, up to a minute: no process can take over without it.
   */
  async patiently<T>(work: () => Promise<T>): Promise<T> {
    return whileUnreachable(work, {
      codes: ["DatabaseUnavailable"],
      giveUpAfterMs: CATALOGUE_PATIENCE_MS,
      signal: this.#signal,
    });
  }

  async #keepOrLose(): Promise<void> {
    try {
      await this.#keep();
    } catch (error) {
      const isLost = error instanceof ImportError && error.code === "StagingBusy";
      if (isLost) this.#lost.abort(error);
    }
  }

  /**
   * Renews while the work runs, one renewal at a time. The work continues while the database is
   * unreachable: no process can take over without it. No renewal is under way when this returns: a
   * late one would report the lease as lost once the caller has ended it.
   */
  async during<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    let renewing: Promise<void> | undefined;
    const timer = setInterval(() => {
      renewing ??= this.#keepOrLose().finally(() => {
        renewing = undefined;
      });
    }, this.#renewEveryMs);
    try {
      const result = await work(this.#signal);
      await this.renewPatiently();
      return result;
    } finally {
      clearInterval(timer);
      await renewing;
    }
  }
}
