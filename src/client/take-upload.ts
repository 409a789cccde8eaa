import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { newPartName } from "../bytes/part-name.ts";
import { namesOf } from "../db/lease-records.ts";
import {
  findResumable,
  renewResumable,
  takeResumable,
  wantResumable,
  type ResumableRow,
} from "../db/resumable-records.ts";
import type { UploadSource } from "../db/schema.ts";
import { findUpload } from "../db/staged-facts.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { ResumableKey } from "../domain/resumable-key.ts";
import { livenessOf, thisProcess } from "../processes/process-identity.ts";
import { requireHere, type StagingTools } from "./stage-image.ts";

const BUSY_PATIENCE_MS = 5_000;
const LOOK_EVERY_MS = 100;

/** An upload that this process writes. @internal */
export interface HeldUpload {
  /** Its row before this process took the lease. */
  readonly before: ResumableRow;
  readonly token: string;
  readonly part: string;
  /** Parts of earlier writers, to be removed once their bytes are in the part. */
  readonly earlierParts: readonly string[];
  /** The bytes to copy into the part first; null: it has them. */
  readonly source: UploadSource | null;
}

/** Finds an upload whose bytes lie on the staging volume of this process. @internal */
export async function findHere(
  { database, staging }: StagingTools,
  key: ResumableKey,
): Promise<ResumableRow> {
  const row = await database.query((db) => findResumable(db, key));
  requireHere(staging, row);
  return row;
}

/**
 * Takes the lease of an upload for a writer. Waits up to 5 s for an earlier writer, which gives way
 * if its bytes have stopped.
 *
 * @returns the upload as it was found, if it is complete
 * @throws ImportError `ImportLost`, `StagingBusy`; the signal's reason
 * @internal
 */
export async function takeUpload(
  tools: StagingTools,
  key: ResumableKey,
  signal: AbortSignal,
): Promise<HeldUpload | ResumableRow> {
  const { database, staging } = tools;
  const { imageId } = key;
  const giveUpAtMs = performance.now() + BUSY_PATIENCE_MS;
  const holder = { node: staging.node, token: randomUUID(), writer: await thisProcess() };
  for (;;) {
    const before = await findHere(tools, key);
    if (before.state === "whole") return before;
    const next = await nextPart(before);
    if (next !== undefined) {
      const { part } = next;
      const earlierParts = [...before.earlierParts, before.part].flatMap((name) =>
        name === null || name === part ? [] : [name],
      );
      const names = { ...next, earlierParts };
      const isTaken = await database.transaction((db) =>
        takeResumable(db, before, { ...holder, ...names, path: before.path }),
      );
      if (isTaken) return { before, token: holder.token, ...names };
      continue;
    }
    if (performance.now() > giveUpAtMs) {
      throw new ImportError(
        "StagingBusy",
        `Another request is sending bytes of the upload of image "${imageId}"`,
        { hint: "Wait for its end, and continue from the offset that the upload has then." },
      );
    }
    await database.query((db) => wantResumable(db, imageId, before.token));
    await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
    signal.throwIfAborted();
  }
}

/**
 * The part in which this writer continues; undefined while another writer writes. A writer that may
 * still be alive keeps its part: this writer continues in a copy of it. If that writer itself was
 * still copying, its part has no other bytes, and its source still exists: this writer copies the
 * source.
 */
async function nextPart({
  imageId,
  part,
  writer,
  resumable,
  isUnrenewed,
}: ResumableRow): Promise<Pick<HeldUpload, "part" | "source"> | undefined> {
  const { isHeld, source = null } = resumable;
  if (!isHeld || (await livenessOf(writer)) === "dead") {
    return { part: part ?? newPartName(imageId, 0), source };
  }
  if (!isUnrenewed) return undefined;
  const ofWriter = part === null ? null : { part, lengthBytes: null, bootId: null };
  // A new copy: no bytes of the unfinished one are used.
  const again = source === null ? ofWriter : { ...source, bootId: null };
  return { part: newPartName(imageId, 0), source: again };
}

/**
 * Gives the lease up, so that the next writer can continue.
 *
 * @returns false if the upload has another writer, or is gone
 * @internal
 */
export async function giveUp(
  { database, timeToLiveMs }: StagingTools,
  { before: { imageId }, token }: HeldUpload,
  facts: { readonly checkedBytes?: null } = {},
): Promise<boolean> {
  try {
    const released = { ...facts, isHeld: false };
    await database.query((db) => renewResumable(db, { imageId, token }, timeToLiveMs, released));
    return true;
  } catch (error) {
    if (error instanceof ImportError && error.code === "StagingBusy") return false;
    throw error;
  }
}

/**
 * Removes the part of a writer that has lost the upload, unless the lease still names the part: the
 * next writer copies it first.
 *
 * @internal
 */
export async function discardUnknown(
  { database, staging }: StagingTools,
  { before: { imageId }, part }: HeldUpload,
): Promise<void> {
  const row = await database.query((db) => findUpload(db, imageId));
  if (row !== undefined && namesOf(row).includes(part)) return;
  await staging.discard({ part });
}
