import {
  WorkflowExecutionAlreadyStartedError,
  WorkflowFailedError,
  WorkflowNotFoundError,
  type Client,
  type WorkflowHandle,
} from "@temporalio/client";
import type { Logger } from "@temporalio/worker";
import type { NodeDependencies } from "../activities/dependencies.ts";
import { removeTaken } from "../activities/release-lease.ts";
import { listFreeUploads, takeFreeUpload, type FreeUpload } from "../db/direct-upload-records.ts";
import { requestOfUpload, settlesUpload } from "../domain/direct-upload.ts";
import { ImportError, UnlistedFailure } from "../domain/import-failure.ts";
import { repeat } from "../health/repeat.ts";
import { livenessOf } from "../processes/process-identity.ts";
import { failureFrom } from "../temporal/failure-from.ts";
import { CONTROL_QUEUE, importWorkflowId, type RefusedImport } from "../workflow/contract.ts";

const EVERY_MS = 5_000;
// The process that took the upload starts its import within moments, if it lives.
const START_PATIENCE_MS = 4_000;
// A process that still runs on this host may be slow, on an overloaded machine. After this time it
// counts as one that has left an upload that it could not remove.
const SLOW_PROCESS_MS = 60_000;

// The pause before another run. A run ends within moments while a worker or a database must be
// corrected first.
const RESTART_PAUSE_MS = 60_000;

/** The next step for a complete upload. */
type NextStep = "import" | "wait" | { readonly removeFor: string };

/** The needs of {@link UploadUpkeep}. */
export interface UploadUpkeepOptions {
  readonly client: Client;
  readonly dependencies: NodeDependencies;
  readonly logger: Logger;
}

/**
 * Continues with the uploads to this worker's staging whose process has died: an incomplete one is
 * removed, and the image is `queued` again, unless it waits for its next bytes; a complete one is
 * imported if an import was to follow.
 */
export class UploadUpkeep {
  readonly #options: UploadUpkeepOptions;
  readonly #stopping = new AbortController();
  /**
   * The closed run after which another import is to be started, by image; `sinceMs`: when it was
   * seen.
   */
  readonly #closedRuns = new Map<string, { readonly runId: string; readonly sinceMs: number }>();

  constructor(options: UploadUpkeepOptions) {
    this.#options = options;
  }

  /** Looks after the uploads until {@link UploadUpkeep.stop}. */
  start(): void {
    void repeat(EVERY_MS, this.#stopping.signal, () => this.look());
  }

  /** Stops looking after the uploads. */
  stop(): void {
    this.#stopping.abort();
  }

  /** Looks after the uploads once. */
  async look(): Promise<void> {
    const { dependencies } = this.#options;
    const { database, staging } = dependencies;
    await this.#trying("look after uploads", async () => {
      const uploads = await database.query((db) => listFreeUploads(db, staging.node));
      for (const imageId of this.#closedRuns.keys()) {
        if (!uploads.some((each) => each.imageId === imageId)) this.#closedRuns.delete(imageId);
      }
      for (const upload of uploads) {
        await this.#trying(`continue with the upload of image ${upload.imageId}`, () =>
          this.#goOn(upload),
        );
      }
    });
  }

  async #goOn(upload: FreeUpload): Promise<void> {
    const { imageId, state, writer, directUpload, task, silentMs, resumableUntil, isUnrenewed } =
      upload;
    if (state === "writing" && resumableUntil !== null) {
      // Each writer extends this time, until which the upload is kept without a writer.
      if (upload.isExpired) await this.#remove(upload, "it has expired");
      return;
    }
    if (state === "writing") {
      const liveness = await livenessOf(writer);
      // The process may run in another container, which this worker cannot look into.
      const isSilent = isUnrenewed && (liveness !== "running" || silentMs > SLOW_PROCESS_MS);
      if (liveness === "dead") await this.#remove(upload, "its process has died");
      else if (isSilent) await this.#remove(upload, "its process gives no sign of life");
      return;
    }
    if (directUpload === null) return;
    if (task !== null && task.status !== "failure") return;
    // Imports of 0.1.0 have no code.
    if (task !== null && (task.code === null || settlesUpload({ code: task.code }))) {
      await this.#remove(upload, "its import has failed");
      return;
    }
    if (silentMs < START_PATIENCE_MS) return;
    const next = await this.#nextAfterRun(imageId, directUpload.request_id);
    if (next === "import") await this.#import(imageId, directUpload);
    else if (next !== "wait") await this.#remove(upload, next.removeFor);
  }

  /**
   * Decides by the run of the import, whose end no task records. The upload is removed only if this
   * end {@link settlesUpload}, as that of a refused request does. Another run follows one that was
   * terminated, or that a worker with a wrong configuration refused.
   */
  async #nextAfterRun(imageId: string, requestId: string): Promise<NextStep> {
    const { workflow } = this.#options.client;
    const workflowId = importWorkflowId(imageId);
    try {
      const { memo, status, runId } = await workflow.getHandle(workflowId).describe();
      if (memo?.["request_id"] !== requestId) return "import";
      if (status.name === "RUNNING" || status.name === "PAUSED") return "wait";
      if (status.name === "CANCELLED") return { removeFor: "its import was cancelled" };
      if (await hasSettled(workflow.getHandle(workflowId, runId))) {
        return { removeFor: "its import was refused, or has failed" };
      }
      return this.#hasPaused(imageId, runId) ? "import" : "wait";
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return "import";
      throw error;
    }
  }

  /** True if the pause after a closed run is over, by the clock of this process alone. */
  #hasPaused(imageId: string, runId: string): boolean {
    const found = this.#closedRuns.get(imageId);
    if (found?.runId === runId) return performance.now() - found.sinceMs >= RESTART_PAUSE_MS;
    this.#closedRuns.set(imageId, { runId, sinceMs: performance.now() });
    return false;
  }

  async #remove(upload: FreeUpload, reason: string): Promise<void> {
    const { dependencies, logger } = this.#options;
    const isRemoved = await removeTaken(dependencies, (db, taker) =>
      takeFreeUpload(db, upload, taker),
    );
    if (isRemoved) logger.info("Removed an upload", { image_id: upload.imageId, reason });
  }

  async #import(imageId: string, upload: NonNullable<FreeUpload["directUpload"]>): Promise<void> {
    const { client, logger } = this.#options;
    const request = requestOfUpload(imageId, upload);
    try {
      await client.workflow.start("importImage", {
        workflowId: importWorkflowId(imageId),
        taskQueue: CONTROL_QUEUE,
        args: [request],
        memo: { request_id: upload.request_id },
      });
      logger.info("Started the import of a complete upload", { image_id: imageId });
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    }
  }

  async #trying(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.logger.warn(`Cannot ${what}; this worker tries again`, { reason });
    }
  }
}

/**
 * True if a closed run was refused, which is the result of the run, or has failed with an error
 * that settles its upload.
 */
async function hasSettled(run: WorkflowHandle): Promise<boolean> {
  try {
    const result = (await run.result()) as Partial<RefusedImport> | undefined;
    return result?.status === "refused";
  } catch (error) {
    if (!(error instanceof WorkflowFailedError)) throw error;
    const failure = failureFrom(error);
    const isOfImport = failure instanceof ImportError || failure instanceof UnlistedFailure;
    return isOfImport && settlesUpload(failure);
  }
}
