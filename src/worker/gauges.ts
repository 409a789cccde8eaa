import type { Client } from "@temporalio/client";
import type { Logger } from "@temporalio/worker";
import { Runtime } from "@temporalio/worker";
import type { Dependencies } from "../activities/dependencies.ts";
import { summarizeClaims } from "../db/claim-records.ts";
import { readLargestShares } from "../db/quota-shares.ts";
import { ImportError } from "../domain/import-failure.ts";
import { setGauge } from "../domain/metrics.ts";
import { repeat } from "../health/repeat.ts";
import { SEARCH_ATTRIBUTES } from "../workflow/contract.ts";
import type { WorkerHealth } from "./worker-health.ts";

const EVERY_MS = 15_000;
// It sums up the images of every owner.
const SHARES_EVERY = 4;
const STORE_PATIENCE_MS = 5_000;

/** The facts that gauges are set from. */
export interface GaugeSources {
  readonly client: Client;
  readonly dependencies: Dependencies;
  readonly health: WorkerHealth;
  readonly logger: Logger;
}

/**
 * Sets the gauges again and again: the numbers of running imports and quotas, which every worker
 * reads from the same catalogue, and the room and health of this worker.
 */
export class Gauges {
  readonly #sources: GaugeSources;
  readonly #meter = Runtime.instance().metricMeter;
  readonly #stopping = new AbortController();
  #looks = 0;

  constructor(sources: GaugeSources) {
    this.#sources = sources;
  }

  /** Sets them until {@link Gauges.stop}. */
  start(): void {
    void repeat(EVERY_MS, this.#stopping.signal, () => this.#look());
  }

  /** Sets them no further. */
  stop(): void {
    this.#stopping.abort();
  }

  async #look(): Promise<void> {
    this.#setHealth();
    await Promise.all([
      this.#trying("imports", () => this.#setImports()),
      this.#trying("free bytes of staging", () => this.#setStaging()),
      this.#trying("free bytes of stores", () => this.#setStores()),
      this.#looks % SHARES_EVERY === 0 && this.#trying("quotas", () => this.#setQuotas()),
    ]);
    this.#looks += 1;
  }

  #setHealth(): void {
    for (const [check, { ok }] of Object.entries(this.#sources.health.checks)) {
      setGauge(this.#meter, "image_import_check_ok", { check }, ok ? 1 : 0);
    }
  }

  async #setImports(): Promise<void> {
    const { client, dependencies } = this.#sources;
    const { running, oldestSeconds } = await dependencies.database.query(summarizeClaims);
    const { name } = SEARCH_ATTRIBUTES.importPhase;
    const paused = await client.workflow.count(
      `WorkflowType = "importImage" AND ExecutionStatus = "Running" AND ${name} = "paused"`,
    );
    setGauge(this.#meter, "image_import_running", {}, running);
    setGauge(this.#meter, "image_import_oldest_seconds", {}, oldestSeconds);
    setGauge(this.#meter, "image_import_paused", {}, paused.count);
    setGauge(this.#meter, "image_import_looked_timestamp_seconds", {}, Date.now() / 1000);
  }

  async #setQuotas(): Promise<void> {
    const { database, limits } = this.#sources.dependencies;
    const shares = await database.query((db) => readLargestShares(db, limits));
    for (const [quota, share] of Object.entries(shares)) {
      setGauge(this.#meter, "image_import_quota_used_ratio", { quota }, share);
    }
  }

  async #setStaging(): Promise<void> {
    const { staging } = this.#sources.dependencies;
    if (staging instanceof ImportError) return;
    const freeBytes = await staging.freeBytes();
    setGauge(this.#meter, "image_import_staging_free_bytes", {}, freeBytes);
  }

  async #setStores(): Promise<void> {
    const { stores } = this.#sources.dependencies;
    for (const [store, freeBytes] of await stores.freeBytes(STORE_PATIENCE_MS)) {
      setGauge(this.#meter, "image_import_store_free_bytes", { store }, freeBytes);
    }
  }

  async #trying(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#sources.logger.debug(`Cannot measure ${what}; this worker tries again`, { reason });
    }
  }
}
