import { randomUUID } from "node:crypto";
import { newPartName } from "../bytes/part-name.ts";
import {
  beginResumable,
  findGeneration,
  takeResumableAway,
  type ResumableRow,
} from "../db/resumable-records.ts";
import { dropStaging } from "../db/upload-records.ts";
import type { DirectUpload } from "../domain/direct-upload.ts";
import type { ResumableKey } from "../domain/resumable-key.ts";
import { thisProcess } from "../processes/process-identity.ts";
import { discardUpload, type StagingTools } from "./stage-image.ts";
import { discardUnknown, findHere, giveUp, takeUpload } from "./take-upload.ts";
import { requireFitting, requireOffset, UploadWriter, type NextBytes } from "./upload-writer.ts";
import { askGuard, type WriteGuard } from "./write-guard.ts";
import { countBytes, findBytes } from "./uploaded-bytes.ts";

/** The facts of an upload to begin. It outlives its writers. */
export interface ResumableOrder extends ResumableKey {
  /** The number of its bytes. */
  readonly size: number;
  /** Kept and returned unchanged. */
  readonly metadata: string;
  /** The import that begins when the upload is complete. Default: none. */
  readonly importAfter?: DirectUpload | undefined;
  /** Asked before anything is changed. Default: every caller may begin it */
  readonly guard?: WriteGuard | undefined;
}

/** An upload that outlives its writers. */
export interface ResumableView {
  readonly image_id: string;
  readonly generation: string;
  readonly size: number;
  /** The number of bytes that are kept: the position of the next one to send. */
  readonly offset: number;
  readonly metadata: string;
  /** ISO 8601. Null: it is complete. */
  readonly expires_at: string | null;
}

/**
 * Begins an upload whose bytes come later. Until it expires it waits for them, without a process.
 *
 * @throws ImportError as `stageData`; `StagingBusy` if the image has one
 * @internal
 */
export async function beginUpload(
  tools: StagingTools,
  { imageId, generation, size, metadata, importAfter, guard }: ResumableOrder,
): Promise<ResumableView> {
  const { database, staging, limits, timeToLiveMs } = tools;
  await staging.requireRoom(size);
  const attempt = {
    ...{ imageId, node: staging.node, token: randomUUID(), writer: await thisProcess() },
    ...{ part: newPartName(imageId, 0), path: staging.pathOf(imageId), sizeBytes: size },
    ...{ replace: false, directUpload: importAfter },
  };
  const before = await database.transaction(async (db) => {
    await askGuard(db, imageId, guard);
    return beginResumable(db, limits, attempt, { generation, metadata, timeToLiveMs });
  });
  if (before !== undefined) await discardUpload(staging, before);
  return findUpload(tools, { imageId, generation });
}

/**
 * Finds an upload, and the number of bytes that it has.
 *
 * @throws ImportError `ImportLost` if it no longer exists, `StagingUnavailable` if its bytes are on
 *   another staging volume
 * @internal
 */
export async function findUpload(tools: StagingTools, key: ResumableKey): Promise<ResumableView> {
  const row = await findHere(tools, key);
  if (row.state === "whole") return viewOf(row, row.resumable.lengthBytes);
  return viewOf(row, await countBytes(row, await findBytes(tools.staging, row)));
}

/** The generation of the upload of an image that is not complete; null: there is none. @internal */
export async function findIncomplete(
  { database }: StagingTools,
  imageId: string,
): Promise<string | null> {
  return database.query((db) => findGeneration(db, imageId));
}

function viewOf(
  { imageId, state, resumable, resumableUntil }: ResumableRow,
  offset: number,
): ResumableView {
  const { generation, lengthBytes, metadata } = resumable;
  return {
    ...{ image_id: imageId, generation, size: lengthBytes, offset, metadata },
    expires_at: state === "whole" ? null : resumableUntil.toISOString(),
  };
}

/**
 * Writes the next bytes of an upload; with the last one it is complete, as after `stageData`. Bytes
 * that were written before a failure or an abort stay. Waits some seconds for an earlier writer,
 * which gives way if its bytes have stopped.
 *
 * @throws ImportError `ImportLost` if the upload no longer exists, `StagingBusy` if another
 *   writer writes, `ImageConflict` for another offset, `ImageTooLarge`, `ChecksumMismatch`,
 *   `NoSpace`, `StagingUnavailable`; the signal's reason
 * @internal
 */
export async function continueUpload(
  tools: StagingTools,
  key: ResumableKey,
  next: NextBytes,
): Promise<ResumableView> {
  const found = await findHere(tools, key);
  requireFitting(found, next.offset + (next.size ?? 0));
  const held = await takeUpload(tools, key, next.signal);
  if (!("before" in held)) {
    requireOffset(key, next.offset, held.resumable.lengthBytes);
    return findUpload(tools, key);
  }
  try {
    await new UploadWriter(tools, held, next).run();
  } catch (error) {
    const isOurs = await giveUp(tools, held).catch(() => undefined);
    if (isOurs === false) {
      await discardUnknown(tools, held).catch(() => undefined);
      // Throws `ImportLost` if the upload is gone.
      await findHere(tools, key);
    }
    throw error;
  }
  return findUpload(tools, key);
}

/**
 * Ends an upload, complete or not, that no import holds; the image is `queued` again.
 *
 * @throws ImportError `ImportLost` if it no longer exists, `ImageBusy`
 * @internal
 */
export async function endUpload(
  tools: StagingTools,
  key: ResumableKey,
  guard?: WriteGuard,
): Promise<void> {
  await findHere(tools, key);
  const { database, staging } = tools;
  const taker = { token: randomUUID(), writer: await thisProcess() };
  const taken = await database.transaction(async (db) => {
    await askGuard(db, key.imageId, guard);
    return takeResumableAway(db, key, taker);
  });
  await discardUpload(staging, taken);
  await database.transaction((db) => dropStaging(db, key.imageId, taker.token));
}
