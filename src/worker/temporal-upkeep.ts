import { WorkflowExecutionAlreadyStartedError, type Client } from "@temporalio/client";
import type { Logger } from "@temporalio/worker";
import { repeat } from "../health/repeat.ts";
import { CONTROL_QUEUE, RECONCILER_ID } from "../workflow/contract.ts";
import { ensureReconcilerSchedule, scheduleReconciler } from "../temporal/reconcile-schedule.ts";
import { registerSearchAttributes } from "../temporal/search-attributes.ts";

// A server that lost its data is repaired within a minute. Runs that wait for that try again more
// and more rarely.
const LOOK_EVERY_MS = 30_000;

/** The pause after a first failure. Each further failure in a row doubles it. */
const RETRY_AFTER_MS = 1_000;

/**
 * Keeps in Temporal what imports need beside their runs: the reconciler's Schedule and the search
 * attributes. A server may come back empty, or be another one, while this worker lives.
 */
export class TemporalUpkeep {
  readonly #client: Client;
  readonly #namespace: string;
  readonly #reconcileEveryMs: number;
  readonly #logger: Logger;
  readonly #stopping = new AbortController();
  #isIntervalSet = false;
  /** Number of failures in a row. */
  #failures = 0;
  #reconciledAtMs = performance.now();

  constructor(client: Client, namespace: string, reconcileEveryMs: number, logger: Logger) {
    this.#client = client;
    this.#namespace = namespace;
    this.#reconcileEveryMs = reconcileEveryMs;
    this.#logger = logger;
  }

  /**
   * Registers the search attributes, and creates or updates the Schedule with the configured
   * interval. From then on retries what failed, and creates again what is missing, until it is
   * stopped.
   */
  async start(): Promise<void> {
    await this.#make();
    void repeat(
      () => this.#pauseMs(),
      this.#stopping.signal,
      () => this.#look(),
      "later",
    );
  }

  /** Stops looking after Temporal. */
  stop(): void {
    this.#stopping.abort();
  }

  #pauseMs(): number {
    const everyMs = Math.min(LOOK_EVERY_MS, this.#reconcileEveryMs);
    if (this.#failures === 0) return everyMs;
    return Math.min(everyMs, RETRY_AFTER_MS * 2 ** (this.#failures - 1));
  }

  async #look(): Promise<void> {
    await this.#make();
    if (performance.now() - this.#reconciledAtMs >= this.#reconcileEveryMs) await this.#reconcile();
  }

  /** Registers and creates what is missing. */
  async #make(): Promise<void> {
    const areRegistered = await this.#attributes();
    const isScheduled = await this.#trying("make the Schedule of the reconciler", () =>
      this.#schedule(),
    );
    if (isScheduled) this.#reconciledAtMs = performance.now();
    this.#failures = areRegistered && isScheduled ? 0 : this.#failures + 1;
  }

  /** Registers the search attributes. A failure does not stop the worker: they only show facts. */
  async #attributes(): Promise<boolean> {
    return this.#trying("register the search attributes", () =>
      registerSearchAttributes(this.#client.connection, this.#namespace),
    );
  }

  async #schedule(): Promise<void> {
    const schedule = this.#isIntervalSet ? ensureReconcilerSchedule : scheduleReconciler;
    await schedule(this.#client, this.#reconcileEveryMs);
    this.#isIntervalSet = true;
  }

  /**
   * Starts the reconciler. Without a Schedule each worker does so by its own clock; the workflow id
   * lets one run at a time.
   */
  async #reconcile(): Promise<void> {
    this.#reconciledAtMs = performance.now();
    await this.#trying("start the reconciler", async () => {
      await this.#client.workflow
        .start("reconcileImports", { workflowId: RECONCILER_ID, taskQueue: CONTROL_QUEUE })
        .catch((error: unknown) => {
          if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
        });
    });
  }

  async #trying(what: string, work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if (!this.#stopping.signal.aborted) {
        const reason = error instanceof Error ? error.message : String(error);
        this.#logger.warn(`Cannot ${what}; this worker tries again`, { reason });
      }
      return false;
    }
  }
}
