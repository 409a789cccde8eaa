import { ImportError } from "../domain/import-failure.ts";
import type { S3Bucket } from "./s3-bucket.ts";
import { hasS3Code, S3Failure } from "./s3-failure.ts";
import { waitBeforeNext } from "./s3-retry.ts";
import type { ArrivedPart } from "./s3-uploads.ts";

/** An upload with all of its parts. */
export interface WholeUpload {
  readonly key: string;
  /** Private name of the copy. */
  readonly part: string;
  readonly sizeBytes: number;
  readonly uploadId: string;
  readonly parts: readonly ArrivedPart[];
}

// After these codes there may be an object of this attempt, one of another attempt, or none.
const UNDECIDED = ["NoSuchUpload", "PreconditionFailed", "ConditionalRequestConflict"];
const TRIES = 4;

/**
 * Turns an upload into the object of its key, unless that key has an object.
 *
 * The object under the key decides, and not the response: a request without a response may have
 * succeeded, a request that is refused because of an object may be refused because of our own, and
 * versitygw 1.8 reports success as long as there is any object, or while another request still
 * completes it.
 */
export async function publishUpload(
  bucket: S3Bucket,
  upload: WholeUpload,
  signal: AbortSignal,
): Promise<"published" | "exists"> {
  for (let tries = 1; ; tries += 1) {
    const failure = await complete(bucket, upload, signal);
    const outcome = await outcomeOf(bucket, upload, signal);
    if (outcome === "exists") await bucket.uploads.abort(upload);
    if (outcome !== undefined) return outcome;
    // Without an upload and an object there is nothing left to publish.
    if (tries === TRIES || hasS3Code(failure, "NoSuchUpload")) throw failure ?? nowhere(upload);
    await waitBeforeNext(tries, failure?.retryAfterMs, signal);
  }
}

/**
 * Completes the upload.
 *
 * @returns a failure after which there may be an object or not; undefined when the server reports
 *   success
 */
async function complete(
  bucket: S3Bucket,
  upload: WholeUpload,
  signal: AbortSignal,
): Promise<S3Failure | undefined> {
  try {
    await completeUnlessExists(bucket, upload, signal);
    return undefined;
  } catch (error) {
    if (isUndecided(error)) return error;
    throw error;
  }
}

/**
 * Completes the upload on the condition that its key has no object. Only one import has that key,
 * so the condition is an extra: it is left out where the server does not know it.
 */
async function completeUnlessExists(
  bucket: S3Bucket,
  upload: WholeUpload,
  signal: AbortSignal,
): Promise<void> {
  try {
    await bucket.uploads.complete(upload, upload.parts, { isConditional: true, signal });
  } catch (error) {
    if (!hasS3Code(error, "NotImplemented")) throw error;
    await bucket.uploads.complete(upload, upload.parts, { isConditional: false, signal });
  }
}

function isUndecided(error: unknown): error is S3Failure {
  return error instanceof S3Failure && (error.isPassing || UNDECIDED.includes(error.s3Code));
}

function nowhere({ key }: WholeUpload): ImportError {
  return new ImportError(
    "StoreUnavailable",
    `Cannot publish "${key}": the server reports success, but has no such object`,
  );
}

async function outcomeOf(
  bucket: S3Bucket,
  upload: WholeUpload,
  signal: AbortSignal,
): Promise<"published" | "exists" | undefined> {
  const found = await bucket.find(upload.key, signal);
  if (found === undefined) return undefined;
  const partCount = /-(\d+)"?$/.exec(found.etag)?.[1];
  const isOurs =
    found.part === upload.part &&
    found.sizeBytes === upload.sizeBytes &&
    (partCount === undefined || Number(partCount) === upload.parts.length);
  return isOurs ? "published" : "exists";
}
