import type { ContainerFormat, DiskFormat } from "../domain/disk-format.ts";
import type { Digests } from "../domain/digests.ts";
import { requireExpected, type Expected } from "../domain/given-checksum.ts";
import { assertSafe } from "../formats/assert-safe.ts";
import type { DeclaredFormats } from "../formats/declared-format.ts";
import { judgeImage } from "../formats/judge-image.ts";
import { requireClaim } from "../db/lease-records.ts";
import { growReservation } from "../db/quota-records.ts";
import { findStaged } from "../db/staged-records.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { withProgress } from "./progress.ts";
import { adoptIfUnknown, openTrustedStaged, type StagedOrder } from "./staged-data.ts";

/** What to verify. */
export interface VerifyOrder extends StagedOrder {
  readonly epoch: number;
  readonly disk_format: string;
  readonly container_format: string;
  /** What the bytes must be, as far as the owner of the image says. */
  readonly expected?: Expected | undefined;
  /** Whether compressed data is decompressed after this, and judged again then. Default: false. */
  readonly decompresses?: boolean;
}

/** What the transform `decompress` takes. */
const DECOMPRESSED: NonNullable<DeclaredFormats["decompressed"]> = ["gzip", "zstd", "xz", "zip"];

/** What the staged bytes turned out to be. */
export interface VerifiedStaging {
  readonly size: number;
  readonly virtual_size: number | null;
  readonly detected_format: string;
  /** The checks of the verdict: `pass`, or why the image fails one that the policy tolerates. */
  readonly checks: Readonly<Record<string, string>>;
  /** Known when our own staging wrote the bytes; null when the digest step must read them. */
  readonly digests: Digests | null;
}

// What a transform made has the format that it says: another one inside is one that was smuggled in.
const STRICT = { requireImageFormatMatch: true };

/** The verdict on staged bytes. It has no undo: it changes nothing but what the catalogue knows of the file. */
export function verifyStagingActivities(dependencies: NodeDependencies) {
  const { database, idleTimeoutMs, limits, formatPolicy } = dependencies;
  return {
    /**
     * Judges the staged bytes before any store is touched: a regular file below the staging root, unchanged since it
     * was staged, in the format that was declared, and safe to be opened.
     *
     * @throws ImportError `StagedDataMissing`, `StagedDataRefused`, `StagedDataChanged`, `ChecksumMismatch`,
     * `FormatMismatch`, `FormatNotAllowed`, `UnsafeImage`, `ImageTooLarge`, `QuotaExceeded`, `ImportLost`
     */
    async verifyStaging(order: VerifyOrder): Promise<VerifiedStaging> {
      const claim = { imageId: order.image_id, epoch: order.epoch };
      await database.transaction((db) => requireClaim(db, claim));
      const totalBytes = await sizeOf(dependencies, order);
      await database.transaction((db) =>
        growReservation(db, limits, claim, { imageBytes: totalBytes }),
      );
      return withProgress(
        {
          about: { step: "verify", totalBytes },
          idleTimeoutMs,
          idleFailure: "StagingUnavailable",
        },
        async (progress) => {
          await using staged = await openTrustedStaged(dependencies, order, progress);
          requireExpected(order.expected ?? {}, {
            size: staged.sizeBytes,
            digests: staged.digests,
          });
          const declared = {
            diskFormat: order.disk_format as DiskFormat,
            containerFormat: order.container_format as ContainerFormat,
            ...(order.decompresses === true ? { decompressed: DECOMPRESSED } : {}),
          };
          const policy = { ...formatPolicy, ...((order.product ?? 0) > 0 ? STRICT : {}) };
          const verdict = await judgeImage(staged.handle, staged.sizeBytes, policy, declared);
          assertSafe(verdict, declared);
          return {
            size: staged.sizeBytes,
            virtual_size: verdict.virtualSizeBytes,
            detected_format: verdict.format,
            checks: verdict.checks,
            digests: staged.digests ?? null,
          };
        },
      );
    },
  };
}

/** The size of what is judged, which is recorded first when nobody knows it yet. */
async function sizeOf(dependencies: NodeDependencies, order: VerifyOrder): Promise<number> {
  const { database, staging } = dependencies;
  if ((order.product ?? 0) > 0) {
    const row = await database.query((db) => findStaged(db, order.image_id, order.product));
    return row?.sizeBytes ?? 0;
  }
  const opened = await staging.openStaged(order.image_id, order.uri ?? undefined);
  await opened.handle.close();
  await adoptIfUnknown(dependencies, order, opened);
  return Number(opened.fingerprint.sizeBytes);
}
