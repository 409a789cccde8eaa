import { once } from "node:events";
import type { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { ImportError } from "../domain/import-failure.ts";
import { planParts, type PlannedPart } from "./part-plan.ts";
import type { S3Bucket } from "./s3-bucket.ts";
import { hasS3Code } from "./s3-failure.ts";
import { hashPart, streamPart, type PartDigests } from "./s3-part-bytes.ts";
import { publishUpload, type WholeUpload } from "./s3-publish.ts";
import { retryPassing } from "./s3-retry.ts";
import type { SentPart } from "./s3-uploads.ts";
import type { CopyOrder, PrivateCopy } from "./store.ts";

/** Settings of {@link uploadCopy}. */
export interface UploadOptions {
  readonly minimumPartBytes: number;
  /** Number of parts that may wait for a response. Each takes 2 MiB of memory. */
  readonly partsInFlight: number;
  readonly limiter: BandwidthLimit | undefined;
}

// Codes for a part whose bytes do not have the announced hash.
const OTHER_BYTES = ["BadDigest", "XAmzContentSHA256Mismatch"];

/**
 * Sends the source to its key as a multipart upload, even a small or empty one: an upload can be
 * aborted, and after that no late attempt can complete it. A plain put could arrive at any time.
 *
 * Parts are hashed and sent one after the other; their responses are awaited side by side. Parts
 * that have arrived are kept for a later attempt. It does not read the source after it has returned
 * or thrown.
 */
export async function uploadCopy(
  bucket: S3Bucket,
  order: CopyOrder,
  options: UploadOptions,
): Promise<PrivateCopy> {
  order.signal.throwIfAborted();
  const plan = planParts(order.sizeBytes, options.minimumPartBytes);
  const upload = await Upload.open(bucket, order, options);
  const sent = await upload.send(plan);
  order.report(order.sizeBytes);
  return {
    crc32: sent.crc32,
    shared: false,
    method: "copy",
    writtenBytes: sent.writtenBytes,
    publish: () => publishUpload(bucket, sent.upload, order.signal),
  };
}

interface Sent {
  readonly upload: WholeUpload;
  readonly crc32: number;
  readonly writtenBytes: number;
}

class Upload {
  readonly #bucket: S3Bucket;
  readonly #order: CopyOrder;
  readonly #options: UploadOptions;
  readonly #uploadId: string;
  readonly #kept: ReadonlyMap<number, SentPart>;
  readonly #etags: string[] = [];
  readonly #sha256s: string[] = [];
  readonly #takenBytes = new Map<number, number>();
  #lastInLine: Promise<void> = Promise.resolve();
  #doneBytes = 0;
  #writtenBytes = 0;

  private constructor(
    bucket: S3Bucket,
    order: CopyOrder,
    options: UploadOptions,
    begun: BegunUpload,
  ) {
    this.#bucket = bucket;
    this.#order = order;
    this.#options = options;
    this.#uploadId = begun.uploadId;
    this.#kept = begun.parts;
  }

  static async open(bucket: S3Bucket, order: CopyOrder, options: UploadOptions): Promise<Upload> {
    const begun = (order.mayResume ? await takeUpBegun(bucket, order) : undefined) ?? {
      uploadId: await bucket.uploads.create(order.key, order.part, order.signal),
      parts: new Map<number, SentPart>(),
    };
    return new Upload(bucket, order, options, begun);
  }

  async send(plan: readonly PlannedPart[]): Promise<Sent> {
    const failed = new AbortController();
    const signal = AbortSignal.any([this.#order.signal, failed.signal]);
    const inFlight = new Set<Promise<void>>();
    let crc = 0;
    try {
      for (const part of plan) {
        const digests = await this.#hash(part, crc, signal);
        crc = digests.crc32;
        if (this.#keeps(part, digests)) continue;
        while (inFlight.size >= this.#options.partsInFlight) await Promise.race(inFlight);
        signal.throwIfAborted();
        const sending = this.#sendPart(part, digests)
          .catch((error: unknown) => {
            failed.abort(error);
          })
          .finally(() => inFlight.delete(sending));
        inFlight.add(sending);
      }
    } finally {
      // Parts under way may finish: a later attempt need not send them.
      await Promise.all(inFlight);
    }
    signal.throwIfAborted();
    const { key, part, sizeBytes } = this.#order;
    return {
      upload: {
        key,
        part,
        sizeBytes,
        uploadId: this.#uploadId,
        parts: plan.map((_, index) => ({
          etag: this.#etags[index] ?? "",
          sha256: this.#sha256s[index] ?? "",
        })),
      },
      crc32: crc,
      writtenBytes: this.#writtenBytes,
    };
  }

  async #hash(part: PlannedPart, crcSoFar: number, signal: AbortSignal): Promise<PartDigests> {
    const kept = this.#kept.get(part.number);
    const withMd5 = kept !== undefined && kept.sha256 === undefined;
    return hashPart(this.#order.source, part, { crcSoFar, withMd5, signal });
  }

  /** True if the part has arrived already, with the bytes that the source has there now. */
  #keeps(part: PlannedPart, digests: PartDigests): boolean {
    const kept = this.#kept.get(part.number);
    if (kept?.sizeBytes !== part.lengthBytes) return false;
    // Without checksums the ETag of a part is its md5, with most servers and most settings.
    const isSame =
      kept.sha256 === undefined
        ? kept.etag.replaceAll('"', "") === digests.md5?.toString("hex")
        : kept.sha256 === digests.sha256.toString("base64");
    if (isSame) this.#arrived(part, digests, kept.etag);
    return isSame;
  }

  async #sendPart(part: PlannedPart, digests: PartDigests): Promise<void> {
    const { signal } = this.#order;
    const etag = await retryPassing(async () => {
      try {
        return await this.#sendOnce(part, digests);
      } catch (error) {
        if (hasS3Code(error, ...OTHER_BYTES)) await this.#requireUnchanged(part, digests);
        throw error;
      }
    }, signal);
    this.#writtenBytes += part.lengthBytes;
    this.#arrived(part, digests, etag);
  }

  async #sendOnce(part: PlannedPart, { sha256 }: PartDigests): Promise<string> {
    const { source, signal, key } = this.#order;
    const leaveLine = await this.#standInLine();
    const over = new AbortController();
    const untilOver = AbortSignal.any([signal, over.signal]);
    const body = streamPart(source, part, {
      limiter: this.#options.limiter,
      signal: untilOver,
      onTaken: (takenBytes) => {
        this.#taken(part, takenBytes);
        if (takenBytes === part.lengthBytes) leaveLine();
      },
    });
    // The SDK does not notice the failure of a body, and would wait for the rest of it.
    body.on("error", (error) => {
      over.abort(error);
    });
    try {
      const { number, lengthBytes } = part;
      return await this.#bucket.uploads.sendPart(
        { key, uploadId: this.#uploadId },
        { number, lengthBytes, sha256, body },
        untilOver,
      );
    } catch (error) {
      // A server may respond before it has read everything; the connection is useless then.
      over.abort(error);
      throw error;
    } finally {
      body.destroy();
      if (!body.closed) await once(body, "close");
      leaveLine();
    }
  }

  /**
   * Waits until the bytes of the earlier parts are sent. Only responses are awaited side by side:
   * an attempt that dies leaves at most one incomplete part, which must be sent again.
   */
  async #standInLine(): Promise<() => void> {
    const before = this.#lastInLine;
    let leave: () => void = () => undefined;
    this.#lastInLine = new Promise((resolve) => {
      leave = resolve;
    });
    await before;
    return leave;
  }

  /** Makes sure that the source did not change: then the bytes were corrupted on the way. */
  async #requireUnchanged(part: PlannedPart, { sha256 }: PartDigests): Promise<void> {
    const { source, signal } = this.#order;
    const now = await hashPart(source, part, { crcSoFar: 0, withMd5: false, signal });
    if (now.sha256.equals(sha256)) return;
    throw new ImportError(
      "StagedDataChanged",
      `Cannot copy the staged data: the ${part.lengthBytes} bytes from byte ${part.offset} changed meanwhile`,
    );
  }

  #arrived(part: PlannedPart, { sha256 }: PartDigests, etag: string): void {
    this.#etags[part.number - 1] = etag;
    this.#sha256s[part.number - 1] = sha256.toString("base64");
    this.#taken(part, part.lengthBytes);
  }

  /**
   * Counts the bytes that were sent. Bytes that are sent again do not count again, but are
   * reported, because the step is not idle.
   */
  #taken(part: PlannedPart, takenBytes: number): void {
    const before = this.#takenBytes.get(part.number) ?? 0;
    if (takenBytes > before) {
      this.#takenBytes.set(part.number, takenBytes);
      this.#doneBytes += takenBytes - before;
    }
    this.#order.report(this.#doneBytes);
  }
}

interface BegunUpload {
  readonly uploadId: string;
  readonly parts: ReadonlyMap<number, SentPart>;
}

/**
 * The upload of a dead attempt, to be continued: the one with most parts. Others of the same key
 * are aborted.
 */
async function takeUpBegun(
  bucket: S3Bucket,
  { key, signal }: CopyOrder,
): Promise<BegunUpload | undefined> {
  let best: BegunUpload | undefined;
  for (const upload of await bucket.uploads.list(key, signal)) {
    // The request names a prefix, and the key of another epoch may begin with this key.
    if (upload.key !== key) continue;
    // The settings of the store have changed since the upload began. The server would refuse our
    // parts.
    if (!upload.isLikeOurs) {
      await bucket.uploads.abort(upload);
      continue;
    }
    const found = await partsOf(bucket, upload, signal);
    if (found === undefined) continue;
    const isBetter = best === undefined || found.parts.size > best.parts.size;
    const worse = isBetter ? best : found;
    if (isBetter) best = found;
    if (worse !== undefined) await bucket.uploads.abort({ key, uploadId: worse.uploadId });
  }
  return best;
}

async function partsOf(
  bucket: S3Bucket,
  upload: { readonly key: string; readonly uploadId: string },
  signal: AbortSignal,
): Promise<BegunUpload | undefined> {
  try {
    return { uploadId: upload.uploadId, parts: await bucket.uploads.listParts(upload, signal) };
  } catch (error) {
    // It was swept after it was listed.
    if (hasS3Code(error, "NoSuchUpload")) return undefined;
    throw error;
  }
}
