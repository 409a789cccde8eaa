import type { PositionalReader } from "../bytes/positional-io.ts";
import { COMPRESSIONS } from "../domain/compression.ts";
import type { ContainerFormat, DiskFormat } from "../domain/disk-format.ts";
import type { Digests } from "../domain/digests.ts";
import type { FormatPolicy } from "../domain/format-policy.ts";
import { requireExpected, type Expected } from "../domain/given-checksum.ts";
import { assertSafe } from "../formats/assert-safe.ts";
import { diskFormatOf, type DeclaredFormats } from "../formats/declared-format.ts";
import { judgeImage, type Verdict } from "../formats/judge-image.ts";
import { adoptFile, type FileToAdopt } from "../db/adoption-records.ts";
import { requireClaim, type ImportId } from "../db/claim-guard.ts";
import { findDirectUpload } from "../db/direct-upload-records.ts";
import { growReservation } from "../db/quota-records.ts";
import { findStagedSource } from "../db/staged-facts.ts";
import { thisProcess } from "../processes/process-identity.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { withProgress, type Progress } from "./progress.ts";
import { openTrustedStaged, type StagedOrder } from "./staged-data.ts";

/** The bytes to verify. */
export interface VerifyOrder extends StagedOrder {
  readonly epoch: number;
  /** Null: the format that the bytes have. */
  readonly disk_format: string | null;
  readonly container_format: string;
  /** Size and checksums that the owner of the image gave. */
  readonly expected?: Expected | undefined;
  /** True if compressed data is decompressed after this, and verified again. Default: false. */
  readonly decompresses?: boolean;
}

/** The verdict on the staged bytes. */
export interface VerifiedStaging {
  readonly size: number;
  readonly virtual_size: number | null;
  readonly detected_format: string;
  /**
   * The detected disk format; null while the bytes are compressed. Undefined if a format was
   * declared.
   */
  readonly disk_format?: DiskFormat | null;
  /** The checks of the verdict: `pass`, or the reason of a failure that the policy tolerates. */
  readonly checks: Readonly<Record<string, string>>;
  /** Digests of bytes that this service wrote; null if the digest step must read them. */
  readonly digests: Digests | null;
}

// A product has the format that its transform reports: another format inside was smuggled in.
const STRICT = { requireImageFormatMatch: true };

/**
 * The verdict on staged bytes. It has no undo: it only records the file in the catalogue.
 */
export function verifyStagingActivities(dependencies: NodeDependencies) {
  const { database, idleTimeoutMs, formatPolicy } = dependencies;
  return {
    /**
     * Judges the staged bytes before any store is touched: a regular file below the staging root,
     * unchanged since it was staged, in the declared format, and safe to open.
     *
     * @throws ImportError `StagedDataMissing`, `StagedDataRefused`, `StagedDataChanged`,
     *   `ChecksumMismatch`, `FormatMismatch`, `FormatNotAllowed`, `UnsafeImage`, `ImageTooLarge`,
     *   `QuotaExceeded`, `ImportLost`
     */
    async verifyStaging(order: VerifyOrder): Promise<VerifiedStaging> {
      const totalBytes = await admit(dependencies, order);
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
          const policy = { ...formatPolicy, ...((order.product ?? 0) > 0 ? STRICT : {}) };
          const isEmpty = staged.sizeBytes === 0 && order.disk_format !== null;
          const { verdict, diskFormat } =
            isEmpty && (await isDirectUpload(database, order.image_id))
              ? { verdict: nothing(order.disk_format), diskFormat: undefined }
              : await judge(
                  { reader: watchedReader(staged.handle, progress), sizeBytes: staged.sizeBytes },
                  policy,
                  order,
                );
          return {
            size: staged.sizeBytes,
            virtual_size: verdict.virtualSizeBytes,
            detected_format: verdict.format,
            ...(diskFormat === undefined ? {} : { disk_format: diskFormat }),
            checks: verdict.checks,
            digests: staged.digests ?? null,
          };
        },
      );
    },
  };
}

/**
 * True if the bytes came with one PUT of `file`. Clients of Glance sometimes send an empty body,
 * and expect an empty image.
 */
async function isDirectUpload(database: NodeDependencies["database"], imageId: string) {
  return (await database.query((db) => findDirectUpload(db, imageId))) !== null;
}

/** The part of a verdict that the step reports. */
type JudgedBytes = Pick<Verdict, "virtualSizeBytes" | "checks"> & { readonly format: string };

/** The verdict on no bytes at all. */
function nothing(diskFormat: string): JudgedBytes {
  return { format: diskFormat, virtualSizeBytes: 0, checks: {} };
}

/** The verdict on bytes in their declared format, or in the detected one. */
async function judge(
  { reader, sizeBytes }: { readonly reader: PositionalReader; readonly sizeBytes: number },
  policy: FormatPolicy,
  order: VerifyOrder,
): Promise<{ readonly verdict: Verdict; readonly diskFormat?: DiskFormat | null }> {
  const asDeclared = (diskFormat: DiskFormat): DeclaredFormats => ({
    diskFormat,
    containerFormat: order.container_format as ContainerFormat,
    ...(order.decompresses === true ? { decompressed: COMPRESSIONS } : {}),
  });
  if (order.disk_format !== null) {
    const declared = asDeclared(order.disk_format as DiskFormat);
    const verdict = await judgeImage(reader, sizeBytes, policy, declared);
    assertSafe(verdict, declared);
    return { verdict };
  }
  const found = await judgeImage(reader, sizeBytes, policy);
  const isCompressed =
    order.decompresses === true && COMPRESSIONS.some((format) => format === found.format);
  if (!isCompressed) {
    assertSafe(found);
    return { verdict: found, diskFormat: diskFormatOf(found.format) ?? "raw" };
  }
  // The content is verified once it is decompressed.
  const declared = asDeclared("raw");
  const verdict = await judgeImage(reader, sizeBytes, policy, declared);
  assertSafe(verdict, declared);
  return { verdict, diskFormat: null };
}

/**
 * A reader that reports every read as progress: the tables of a large image take many. No read
 * begins after the step was cancelled or paused.
 */
function watchedReader(handle: PositionalReader, progress: Progress): PositionalReader {
  let readBytes = 0;
  return {
    read: async (...place) => {
      progress.signal.throwIfAborted();
      const { bytesRead } = await handle.read(...place);
      readBytes += bytesRead;
      progress.report(readBytes);
      return { bytesRead };
    },
  };
}

/**
 * Reserves room for the bytes to judge. A file that the catalogue does not know is adopted in the
 * same transaction, which begins with the claim: a late attempt adopts nothing.
 *
 * @returns their size
 */
async function admit(dependencies: NodeDependencies, order: VerifyOrder): Promise<number> {
  const { database, limits } = dependencies;
  const claim = { imageId: order.image_id, epoch: order.epoch };
  const isProduct = (order.product ?? 0) > 0;
  const file = isProduct ? undefined : await findFile(dependencies, order, claim);
  return database.transaction(async (db) => {
    await requireClaim(db, claim);
    if (file !== undefined) await adoptFile(db, limits, file);
    const imageBytes =
      file === undefined
        ? ((await findStagedSource(db, { ...claim, product: order.product }))?.sizeBytes ?? 0)
        : Number(file.fingerprint.sizeBytes);
    // This call may lock the lease of a download after the owner. There is no deadlock: a
    // transaction that holds that lease and waits for the owner must hold the image, too, which
    // this transaction has locked.
    await growReservation(db, limits, claim, { imageBytes });
    return imageBytes;
  });
}

/**
 * Looks at the file to judge. An import that has lost its image fails for that reason, not because
 * the file is missing.
 */
async function findFile(
  { database, staging, stagingTimeToLiveMs }: NodeDependencies,
  order: VerifyOrder,
  claim: ImportId,
): Promise<FileToAdopt> {
  const writer = await thisProcess();
  try {
    const uri = order.uri ?? undefined;
    const opened = await staging.openStaged(order.image_id, uri);
    const { handle, path, fingerprint, ownName } = opened;
    await handle.close();
    return {
      imageId: order.image_id,
      node: staging.node,
      writer,
      path,
      fingerprint,
      isOwnFile: staging.isOwnFile(path),
      ownName,
      timeToLiveMs: stagingTimeToLiveMs,
    };
  } catch (error) {
    await database.transaction((db) => requireClaim(db, claim));
    throw error;
  }
}
