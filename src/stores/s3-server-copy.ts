import { planParts, type PlannedPart } from "./part-plan.ts";
import type { S3Bucket } from "./s3-bucket.ts";
import type { S3Place } from "./s3-connection.ts";
import { hasS3Code } from "./s3-failure.ts";
import { publishUpload } from "./s3-publish.ts";
import type { UploadOptions } from "./s3-upload.ts";
import type { ArrivedPart } from "./s3-uploads.ts";
import type { CopyOrder, PrivateCopy } from "./store.ts";
import type { Report } from "../domain/report.ts";

// A part reports no progress until it completes, so it must be over within the idle timeout.
const LARGEST_PART_BYTES = 64 * 1024 * 1024;

// Codes of a server that cannot copy, or not from there with these credentials. Sending the bytes
// may still work, or will show what is really wrong.
const REFUSALS = [
  "AccessDenied",
  "Forbidden",
  "InvalidArgument",
  "InvalidRequest",
  "MethodNotAllowed",
  "NoSuchBucket",
  "NoSuchKey",
  "NotImplemented",
  "PreconditionFailed",
];

/**
 * Lets the server copy an object that it has, without moving its bytes through this process. Like
 * every copy it is a multipart upload, so that it can be aborted. It is not resumed: the next
 * attempt aborts it and starts again.
 *
 * @returns undefined when this server cannot do that; nothing is left then
 */
export async function copyOnServer(
  bucket: S3Bucket,
  order: CopyOrder,
  { minimumPartBytes, partsInFlight }: UploadOptions,
): Promise<PrivateCopy | undefined> {
  const { source, key, part, sizeBytes, crc32, signal, report } = order;
  const { place } = source;
  // A copy of an unknown crc32 could not be checked later, and an empty object has no range.
  if (!bucket.hasServerOf(place) || crc32 === undefined || sizeBytes === 0) return undefined;
  const uploadId = await bucket.uploads.create(key, part, signal, { isCopy: true });
  try {
    const plan = planParts(sizeBytes, Math.min(minimumPartBytes, LARGEST_PART_BYTES));
    const parts = await copyParts(bucket, { key, uploadId }, plan, {
      from: place,
      partsInFlight,
      signal,
      report,
    });
    const upload = { key, part, sizeBytes, uploadId, parts };
    return {
      crc32,
      shared: false,
      method: "server copy",
      writtenBytes: 0,
      publish: () => publishUpload(bucket, upload, signal),
    };
  } catch (error) {
    await abortCopy(bucket, { key, uploadId });
    if (hasS3Code(error, ...REFUSALS)) return undefined;
    throw error;
  }
}

/**
 * Aborts an upload to which the server may still be copying a part. The undo of the copy removes
 * the bytes that the server still keeps after that.
 */
async function abortCopy(
  { uploads }: S3Bucket,
  upload: { readonly key: string; readonly uploadId: string },
): Promise<void> {
  try {
    await uploads.abort(upload);
    await uploads.abortAll(upload.key, ({ uploadId }) => uploadId === upload.uploadId);
  } catch {
    // The caller has to know the failure of the copy, not this one.
  }
}

interface PartCopying {
  readonly from: S3Place;
  readonly partsInFlight: number;
  readonly signal: AbortSignal;
  readonly report: Report;
}

/** Copies up to `partsInFlight` parts side by side. The first failure stops all. */
async function copyParts(
  bucket: S3Bucket,
  upload: { readonly key: string; readonly uploadId: string },
  plan: readonly PlannedPart[],
  { from, partsInFlight, signal, report }: PartCopying,
): Promise<ArrivedPart[]> {
  const failed = new AbortController();
  const untilFailed = AbortSignal.any([signal, failed.signal]);
  const arrived: ArrivedPart[] = [];
  let doneBytes = 0;
  const waiting = [...plan];
  const copyOneAfterTheOther = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const { number, offset, lengthBytes } = next;
      // AWS accepts no range of a small object.
      const range = plan.length === 1 ? undefined : { offset, lengthBytes };
      const etag = await bucket.uploads.copyPart(upload, { number, from, range }, untilFailed);
      arrived[number - 1] = { etag, sha256: undefined };
      doneBytes += lengthBytes;
      report(doneBytes);
    }
  };
  const copying = Array.from({ length: partsInFlight }, async () => {
    try {
      await copyOneAfterTheOther();
    } catch (error) {
      failed.abort(error);
    }
  });
  // All have ended before the upload is aborted.
  await Promise.all(copying);
  untilFailed.throwIfAborted();
  return arrived;
}
