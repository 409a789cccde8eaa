import { log } from "@temporalio/activity";
import { fingerprintOf } from "../bytes/fingerprint.ts";
import { hashFile } from "../bytes/hash-file.ts";
import { beginProcessing } from "../db/task-records.ts";
import { updateStaged } from "../db/staged-facts.ts";
import type { Digests } from "../domain/digests.ts";
import {
  requireExpected,
  requireSame,
  type Expected,
  type GivenChecksum,
} from "../domain/given-checksum.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { isUnreachable } from "./patiently.ts";
import { withProgress, type ProgressOptions } from "./progress.ts";
import { openTrustedStaged, requireUnchanged, type StagedOrder } from "./staged-data.ts";

/** The bytes to digest. */
export interface DigestOrder extends StagedOrder {
  readonly task_id: string;
  readonly size: number;
  /** Checksums that the owner of the image gave. */
  readonly expected?: Expected | undefined;
  /** The multihash that the import was accepted with. Default: that of this worker. */
  readonly hash_algo?: string | undefined;
}

/** The checksum to check. */
export interface CheckOrder extends DigestOrder {
  readonly checksum: GivenChecksum;
}

/** The digests of bytes that this service did not write. It has no undo: it changes no bytes. */
export function digestStagedActivities(dependencies: NodeDependencies) {
  const { database, idleTimeoutMs, hashAlgo } = dependencies;
  const aboutDigest = ({ size }: DigestOrder): ProgressOptions => ({
    about: { step: "digest", totalBytes: size },
    idleTimeoutMs,
    idleFailure: "StagingUnavailable",
  });
  return {
    /**
     * Digests the staged bytes while copies read them.
     *
     * @throws ImportError `StagedDataMissing`, `StagedDataChanged`, `ChecksumMismatch`
     */
    async digestStaged(order: DigestOrder): Promise<Digests> {
      await database.query((db) => beginProcessing(db, order.task_id));
      return withProgress(aboutDigest(order), async (progress) => {
        await using staged = await openTrustedStaged(dependencies, order, progress);
        if (staged.digests !== undefined) return staged.digests;
        const { sizeBytes: size } = staged;
        const before = await fingerprintOf(staged.handle);
        const digests = await hashFile(staged.handle, {
          sizeBytes: size,
          hashAlgo: order.hash_algo ?? hashAlgo,
          signal: progress.signal,
          report: (doneBytes) => {
            progress.report(doneBytes);
          },
        });
        await requireUnchanged(staged, before);
        requireExpected(order.expected ?? {}, { size, digests });
        const fingerprint = await fingerprintOf(staged.handle);
        await database
          .query((db) => updateStaged(db, staged.row, { fingerprint, digests }))
          .catch((error: unknown) => {
            // The digests are the result of this step, and must not be lost. Their record only
            // saves a later attempt the work.
            if (!isUnreachable(error)) throw error;
            const about = { image_id: order.image_id, reason: error.message };
            log.warn("Cannot record the digests of staged data in the catalogue", about);
          });
        return digests;
      });
    },

    /**
     * Compares the staged bytes with a checksum of an algorithm that no other step computes, while
     * copies read them.
     *
     * @throws ImportError `ChecksumMismatch`, `StagedDataMissing`, `StagedDataChanged`
     */
    async checkDigest(order: CheckOrder): Promise<void> {
      const { algo } = order.checksum;
      await withProgress(aboutDigest(order), async (progress) => {
        await using staged = await openTrustedStaged(dependencies, order, progress);
        const before = await fingerprintOf(staged.handle);
        const digests = await hashFile(staged.handle, {
          sizeBytes: staged.sizeBytes,
          hashAlgo: algo === "md5" ? hashAlgo : algo,
          signal: progress.signal,
          report: progress.report,
        });
        await requireUnchanged(staged, before);
        requireSame(order.checksum, algo === "md5" ? digests.checksum : digests.osHashValue);
      });
    },
  };
}
