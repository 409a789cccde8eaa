import { ImportError } from "../domain/import-failure.ts";
import type { ArrivedPart, S3Bucket } from "./s3-bucket.ts";
import { hasS3Code, S3Failure } from "./s3-failure.ts";
import { waitBeforeNext } from "./s3-retry.ts";

/** An upload all of whose parts have arrived. */
export interface WholeUpload {
  readonly key: string;
  /** Private name of the attempt that wrote it. */
  readonly part: string;
  readonly sizeBytes: number;
  readonly uploadId: string;
  readonly parts: readonly ArrivedPart[];
}

// There may be an object now, ours or another's, or none.
const UNDECIDED = ["NoSuchUpload", "PreconditionFailed", "ConditionalRequestConflict"];
const TRIES = 4;

/**
 * Makes an object of an upload, unless there is one of that key.
 *
 * What lies under the key decides, and no answer: a request that got none may have been heeded, one
 * that is refused because of an object may be refused because of our own, and versitygw 1.8 reports
 * success as long as there is any object, or while another request still puts it together.
 */
export async function publishUpload(
  bucket: S3Bucket,
  upload: WholeUpload,
  signal: AbortSignal,
): Promise<"published" | "exists"> {
  for (let tries = 1; ; tries += 1) {
    const failure = await complete(bucket, upload, signal);
    const outcome = await outcomeOf(bucket, upload, signal);
    if (outcome === "exists") await bucket.abortUpload(upload);
    if (outcome !== undefined) return outcome;
    // Without upload and object there is nothing left to publish.
    if (tries === TRIES || hasS3Code(failure, "NoSuchUpload")) throw failure ?? nowhere(upload);
    await waitBeforeNext(tries, failure?.retryAfterMs, signal);
  }
}

/**
 * @returns a failure that leaves open whether there is an object now; undefined when the server
 *   says that it is done
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
 * The key is of one import alone, so that the condition is an extra: where it isn't known it may be
 * left out.
 */
async function completeUnlessExists(
  bucket: S3Bucket,
  upload: WholeUpload,
  signal: AbortSignal,
): Promise<void> {
  try {
    await bucket.completeUpload(upload, upload.parts, { isConditional: true, signal });
  } catch (error) {
    if (!hasS3Code(error, "NotImplemented")) throw error;
    await bucket.completeUpload(upload, upload.parts, { isConditional: false, signal });
  }
}

function isUndecided(error: unknown): error is S3Failure {
  return error instanceof S3Failure && (error.isPassing || UNDECIDED.includes(error.s3Code));
}

function nowhere({ key }: WholeUpload): ImportError {
  return new ImportError(
    "StoreUnavailable",
    `Cannot publish "${key}": the server says that it has done so, and has no such object`,
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
