import { compareFingerprints } from "../bytes/fingerprint.ts";
import type { ResumableRow } from "../db/resumable-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import { thisProcess } from "../processes/process-identity.ts";
import type { StagingArea } from "../staging/staging-area.ts";

/** The bytes of an incomplete upload in the staging area. */
export interface UploadedBytes {
  readonly sizeBytes: number;
  /**
   * True if they have their final name already: their writer died before it recorded that.
   */
  readonly isPublished: boolean;
}

/** Finds the bytes of an upload that is not complete; undefined if there are none. @internal */
export async function findBytes(
  staging: StagingArea,
  { imageId, part, resumable: { source, complete } }: ResumableRow,
): Promise<UploadedBytes | undefined> {
  const name = source?.part ?? part;
  const sizeBytes = name === null ? undefined : await staging.partBytes(name);
  if (sizeBytes !== undefined) return { sizeBytes, isPublished: false };
  if (complete == null) return undefined;
  try {
    const { handle, fingerprint } = await staging.openStaged(imageId);
    await handle.close();
    // A user may have put a file of this name there.
    if (compareFingerprints(complete, fingerprint) === "changed") return undefined;
    return { sizeBytes: Number(fingerprint.sizeBytes), isPublished: true };
  } catch (error) {
    const isAbsent =
      error instanceof ImportError &&
      ["StagedDataMissing", "StagedDataRefused"].includes(error.code);
    if (isAbsent) return undefined;
    throw error;
  }
}

/**
 * Counts the bytes of an incomplete upload. After a restart of the machine only synced bytes count.
 * Bytes whose checksum was not compared do not count. The last byte never does: it must be sent
 * again, since a client would not continue an upload that has all its bytes.
 *
 * @returns the number of bytes that count: the position of the next one to send
 * @internal
 */
export async function countBytes(
  { resumable }: ResumableRow,
  bytes: UploadedBytes | undefined,
): Promise<number> {
  const { bootId, syncedBytes, checkedBytes, lengthBytes, source } = resumable;
  const isSameBoot = bootId === (await thisProcess()).bootId;
  return Math.min(
    bytes?.sizeBytes ?? 0,
    ...[source?.lengthBytes ?? Infinity, lengthBytes - 1],
    isSameBoot ? Infinity : syncedBytes,
    checkedBytes ?? Infinity,
  );
}
