import {
  WorkflowExecutionAlreadyStartedError,
  WorkflowNotFoundError,
  type Client,
} from "@temporalio/client";
import type { Logger } from "@temporalio/worker";
import type { NodeDependencies } from "../activities/dependencies.ts";
import { removeTaken } from "../activities/release-lease.ts";
import { listFreeUploads, takeFreeUpload, type FreeUpload } from "../db/direct-upload-records.ts";
import { requestOfUpload } from "../domain/direct-upload.ts";
import { repeat } from "../health/repeat.ts";
import { livenessOf } from "../processes/process-identity.ts";
import { CONTROL_QUEUE, importWorkflowId } from "../workflow/contract.ts";

const EVERY_MS = 5_000;
// The process that took the upload starts its import within moments, if it lives.
const START_PATIENCE_MS = 4_000;
// A process that runs on this host may be slow, on a machine that does far too much; or it has left
// an upload that it could not remove.
const SLOW_PROCESS_MS = 60_000;

/** The needs of {@link UploadUpkeep}. */
export interface UploadUpkeepOptions {
  readonly client: Client;
  readonly dependencies: NodeDependencies;
  readonly logger: Logger;
}

/**
 * Goes on with the uploads to this worker's staging whose process has died: an incomplete one is
 * removed, and the image is `queued` again, unless it waits for its next bytes; a complete one is
 * imported if an import was to follow.
 */
export class UploadUpkeep {
  readonly #options: UploadUpkeepOptions;
  readonly #stopping = new AbortController();

  constructor(options: UploadUpkeepOptions) {
    this.#options = options;
  }

  /** Looks after them until {@link UploadUpkeep.stop}. */
  start(): void {
    void repeat(EVERY_MS, this.#stopping.signal, () => this.#look());
  }

  /** Ends the looks. */
  stop(): void {
    this.#stopping.abort();
  }

  async #look(): Promise<void> {
    const { dependencies } = this.#options;
    const { database, staging } = dependencies;
    await this.#trying("look after uploads", async () => {
      const uploads = await database.query((db) => listFreeUploads(db, staging.node));
      for (const upload of uploads) {
        await this.#trying(`go on with the upload of image ${upload.imageId}`, () =>
          this.#goOn(upload),
        );
      }
    });
  }

  async #goOn(upload: FreeUpload): Promise<void> {
    const { imageId, state, writer, directUpload, task, silentMs, resumableUntil, isUnrenewed } =
      upload;
    if (state === "writing" && resumableUntil !== null) {
      // Its writers renew this time, and it may do without one.
      if (upload.isExpired) await this.#remove(upload, "it has expired");
      return;
    }
    if (state === "writing") {
      const liveness = await livenessOf(writer);
      // The process may be one of another container, which cannot be looked at from here.
      const isSilent = isUnrenewed && (liveness !== "running" || silentMs > SLOW_PROCESS_MS);
      if (liveness === "dead") await this.#remove(upload, "its process has died");
      else if (isSilent) await this.#remove(upload, "its process gives no sign of life");
      return;
    }
    if (directUpload === null) return;
    if (task === "failure") {
      await this.#remove(upload, "its import has failed");
      return;
    }
    if (task !== null || silentMs < START_PATIENCE_MS) return;
    if (await this.#wasRefused(imageId, directUpload.request_id)) {
      await this.#remove(upload, "its import was refused");
      return;
    }
    await this.#import(imageId, directUpload);
  }

  /** True if the import was started and has ended: a refused one leaves no task. */
  async #wasRefused(imageId: string, requestId: string): Promise<boolean> {
    try {
      const handle = this.#options.client.workflow.getHandle(importWorkflowId(imageId));
      const { memo, status } = await handle.describe();
      return memo?.["request_id"] === requestId && status.name !== "RUNNING";
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return false;
      throw error;
    }
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
      logger.info("Started the import of an upload whose process has died", { image_id: imageId });
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
