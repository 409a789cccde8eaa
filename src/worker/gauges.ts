import type { Client } from "@temporalio/client";
import type { Logger } from "@temporalio/worker";
import { Runtime } from "@temporalio/worker";
import type { Dependencies } from "../activities/dependencies.ts";
import { summarizeClaims } from "../db/claim-records.ts";
import { readLargestShares } from "../db/quota-shares.ts";
import { ImportError } from "../domain/import-failure.ts";
import { setGauge } from "../domain/metrics.ts";
import { SEARCH_ATTRIBUTES } from "../workflow/contract.ts";
import { GaugeReading, type SetGauge } from "./gauge-reading.ts";
import type { WorkerHealth } from "./worker-health.ts";

const EVERY_MS = 15_000;
// Longer than the others: this reading sums up the images of every owner.
const SHARES_EVERY_MS = 60_000;
// Longer than a statement of the database may take.
const LIMIT_MS = 30_000;
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
 * reads from the same catalogue, and the room and health of this worker. Each group has a reading
 * of its own: one that hangs does not stop the others.
 */
export class Gauges {
  readonly #sources: GaugeSources;
  readonly #meter = Runtime.instance().metricMeter;
  readonly #readings: readonly GaugeReading[];

  constructor(sources: GaugeSources) {
    this.#sources = sources;
    this.#readings = [
      this.#reading("health", (set) => {
        this.#readHealth(set);
      }),
      this.#reading("imports", (set) => this.#readImports(set)),
      this.#reading("free bytes of staging", (set) => this.#readStaging(set)),
      this.#reading("free bytes of stores", (set) => this.#readStores(set)),
      this.#reading("quotas", (set) => this.#readQuotas(set), SHARES_EVERY_MS),
    ];
  }

  /** Sets the gauges until {@link Gauges.stop}. */
  start(): void {
    for (const reading of this.#readings) reading.start();
  }

  /** Ends the readings. */
  stop(): void {
    for (const reading of this.#readings) reading.stop();
  }

  #reading(
    what: string,
    read: (set: SetGauge) => void | Promise<void>,
    everyMs = EVERY_MS,
  ): GaugeReading {
    const onFailure = (reason: string): void => {
      this.#sources.logger.debug(`Cannot measure ${what}; this worker tries again`, { reason });
    };
    return new GaugeReading(this.#meter, { read, everyMs, limitMs: LIMIT_MS, onFailure });
  }

  #readHealth(set: SetGauge): void {
    for (const [check, { ok }] of Object.entries(this.#sources.health.checks)) {
      set("image_import_check_ok", { check }, ok ? 1 : 0);
    }
  }

  async #readImports(set: SetGauge): Promise<void> {
    const { client, dependencies } = this.#sources;
    const { running, oldestSeconds } = await dependencies.database.query(summarizeClaims);
    const { name } = SEARCH_ATTRIBUTES.importPhase;
    const paused = await client.workflow.count(
      `WorkflowType = "importImage" AND ExecutionStatus = "Running" AND ${name} = "paused"`,
    );
    set("image_import_running", {}, running);
    set("image_import_oldest_seconds", {}, oldestSeconds);
    set("image_import_paused", {}, paused.count);
    // Set without `set`, so that it keeps its value when a reading fails: an alert looks at its
    // age.
    setGauge(this.#meter, "image_import_looked_timestamp_seconds", {}, Date.now() / 1000);
  }

  async #readQuotas(set: SetGauge): Promise<void> {
    const { database, limits } = this.#sources.dependencies;
    const shares = await database.query((db) => readLargestShares(db, limits));
    for (const [quota, share] of Object.entries(shares)) {
      set("image_import_quota_used_ratio", { quota }, share);
    }
  }

  async #readStaging(set: SetGauge): Promise<void> {
    const { staging } = this.#sources.dependencies;
    if (staging instanceof ImportError) return;
    set("image_import_staging_free_bytes", {}, await staging.freeBytes());
  }

  async #readStores(set: SetGauge): Promise<void> {
    const { stores } = this.#sources.dependencies;
    for (const [store, freeBytes] of await stores.freeBytes(STORE_PATIENCE_MS)) {
      set("image_import_store_free_bytes", { store }, freeBytes);
    }
  }
}
