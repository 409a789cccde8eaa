import { createHash, randomBytes, randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import type { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { isPartName, keyOfPart } from "../bytes/part-name.ts";
import { readFully } from "../bytes/positional-io.ts";
import { ImportError } from "../domain/import-failure.ts";
import { S3Bucket } from "./s3-bucket.ts";
import type { S3ConnectionOptions } from "./s3-connection.ts";
import { copyOnServer } from "./s3-server-copy.ts";
import { S3Reader } from "./s3-reader.ts";
import { hasS3Code } from "./s3-failure.ts";
import { uploadCopy, type UploadOptions } from "./s3-upload.ts";
import { ABORT_ROUNDS } from "./s3-uploads.ts";
import {
  MARK_NAME,
  markText,
  parseMark,
  type Adopted,
  type MarkedPlace,
  type StoreMark,
} from "./store-mark.ts";
import {
  noCatalogue,
  storeKey,
  type CopyOrder,
  type FoundCopy,
  type OpenCopy,
  type PrivateCopy,
  type Store,
  type StoreHealth,
  type StoreLook,
} from "./store.ts";

/** Settings of an {@link S3Store}. */
export interface S3StoreOptions extends S3ConnectionOptions {
  /**
   * Smallest size of a part, in bytes, from 5 MiB; large images get larger parts. Default: 16 MiB
   */
  readonly partSizeBytes?: number | undefined;
  /** Number of parts of one copy that may wait for a response. Default: 4 */
  readonly partsInFlight?: number | undefined;
  readonly limiter?: BandwidthLimit | undefined;
  /**
   * Distinguishes the bucket from one that was emptied or replaced. Default: any bucket is accepted
   */
  readonly mark?: StoreMark | undefined;
}

const DEFAULT_PART_BYTES = 16 * 1024 * 1024;
const DEFAULT_PARTS_IN_FLIGHT = 4;

/**
 * Keeps images as objects in a bucket. A part is a multipart upload of the final key: readers do
 * not see it, and no late attempt can complete it after it was aborted.
 */
export class S3Store implements Store {
  readonly name: string;
  readonly kind = "s3";
  readonly #bucket: S3Bucket;
  readonly #uploading: UploadOptions;
  readonly #mark: StoreMark | undefined;

  constructor(options: S3StoreOptions) {
    this.name = options.name;
    this.#mark = options.mark;
    this.#bucket = new S3Bucket(options);
    this.#uploading = {
      minimumPartBytes: options.partSizeBytes ?? DEFAULT_PART_BYTES,
      partsInFlight: options.partsInFlight ?? DEFAULT_PARTS_IN_FLIGHT,
      limiter: options.limiter,
    };
  }

  urlOf(key: string): string {
    return this.#bucket.urlOf(key);
  }

  async copy(order: CopyOrder): Promise<PrivateCopy> {
    await this.#requirePlace("begin", order.signal);
    return (
      (await copyOnServer(this.#bucket, order, this.#uploading)) ??
      (await uploadCopy(this.#bucket, order, this.#uploading))
    );
  }

  async open(key: string, signal?: AbortSignal): Promise<OpenCopy> {
    const object = await this.#bucket.find(key, signal);
    if (object !== undefined) return new S3Reader(this.#bucket, key, object, signal);
    await this.#requirePlace("read", signal);
    throw new ImportError(
      "StoreUnavailable",
      `Cannot read ${this.urlOf(key)} in store "${this.name}": the bucket has no such object`,
    );
  }

  async find(key: string, signal?: AbortSignal): Promise<FoundCopy | undefined> {
    const object = await this.#bucket.find(key, signal);
    if (object !== undefined) return { sizeBytes: object.sizeBytes, version: object.etag };
    // An object that is not found is missing only if this bucket has the mark of the store.
    await this.#requirePlace("read", signal);
    return undefined;
  }

  async remove(names: readonly string[]): Promise<void> {
    await this.#requirePlace("write");
    // Uploads first: an upload may become the object until it is aborted.
    const uploading = new Set(names.filter(isPartName).map(keyOfPart));
    for (const key of uploading) await this.#abortUploadsOf(key);
    for (const name of names) {
      if (!isPartName(name)) await this.#bucket.delete(name);
    }
  }

  async listParts(olderThanMs: number): Promise<string[]> {
    await this.#requirePlace("read");
    const uploads = await this.#bucket.uploads.list("");
    return uploads
      .filter(({ initiatedAt }) => Date.now() - initiatedAt.getTime() > olderThanMs)
      .map(({ key, uploadId }) => `${key}.${eightDigitsOf(uploadId)}.part`)
      .filter(isPartName);
  }

  async check(look: StoreLook = "writable"): Promise<StoreHealth> {
    try {
      // The first request is one whose response can name the S3 error: a response to HEAD has no
      // body.
      if (look !== "readable") await this.#bucket.uploads.requireAccess();
      await this.#bucket.head();
      const mark = await this.#mark?.look(this.#place());
      if (look === "trial") await this.#tryOut();
      return {
        works: true,
        ...(mark === undefined ? {} : { mark }),
      };
    } catch (error) {
      return { works: false, reason: error instanceof Error ? error.message : String(error) };
    }
  }

  async prepare(): Promise<void> {
    if (this.#mark === undefined) await this.#bucket.head();
    else await this.#requirePlace("begin");
  }

  async adopt(): Promise<Adopted> {
    if (this.#mark === undefined) throw noCatalogue(this.name);
    return this.#mark.adopt(this.#place());
  }

  /**
   * Makes sure that the bucket is that of the store.
   *
   * @throws ImportError `StoreUnavailable`; `BadConfiguration` when the bucket does not exist and
   *   never did, as far as the catalogue knows
   */
  async #requirePlace(
    purpose: Parameters<StoreMark["require"]>[1],
    signal?: AbortSignal,
  ): Promise<void> {
    const mark = this.#mark;
    if (mark === undefined) return;
    try {
      await mark.require(this.#place(signal), purpose);
    } catch (error) {
      if (!hasS3Code(error, "NoSuchBucket")) throw error;
      const isKnown = await mark.isKnown();
      const { title } = this.#bucket;
      throw new ImportError(
        isKnown ? "StoreUnavailable" : "BadConfiguration",
        `Cannot use store "${this.name}": the ${title} ${isKnown ? "no longer exists" : "does not exist"}`,
        {
          cause: error,
          hint: isKnown
            ? `Restore the bucket, or correct \`stores.${this.name}\`; the step is retried.`
            : `Create the bucket, or correct \`bucket\`, \`region\` and \`endpoint\` of \`stores.${this.name}\`.`,
        },
      );
    }
  }

  /** The bucket as the place of a mark. */
  #place(signal?: AbortSignal): MarkedPlace {
    const bucket = this.#bucket;
    const { title } = bucket;
    const read = async (): Promise<string | undefined> => {
      const text = await bucket.getText(MARK_NAME, signal);
      return text === undefined ? undefined : parseMark(text, title);
    };
    return {
      title,
      read,
      write: async (mark) => {
        await this.#putMark(mark);
        return (await read()) ?? mark;
      },
      holds: async (key) => (await bucket.find(key, signal)) !== undefined,
    };
  }

  /** Puts the mark. Of several processes the first wins, where the server knows that condition. */
  async #putMark(mark: string): Promise<void> {
    try {
      await this.#bucket.putText(MARK_NAME, markText(mark), true);
    } catch (error) {
      if (hasS3Code(error, "PreconditionFailed", "ConditionalRequestConflict")) return;
      if (!hasS3Code(error, "NotImplemented", "InvalidArgument")) throw error;
      await this.#bucket.putText(MARK_NAME, markText(mark), false);
    }
  }

  /**
   * Writes an object, reads it back and removes it. A trial that is killed leaves an upload, which
   * is swept; or, if the upload was complete, an object, which is not.
   */
  async #tryOut(): Promise<void> {
    const key = storeKey(randomUUID(), 0);
    const bytes = randomBytes(4096);
    const { signal } = new AbortController();
    const uploadId = await this.#bucket.uploads.create(key, `${key}.trial`, signal);
    try {
      const sha256 = createHash("sha256").update(bytes).digest();
      const part = { number: 1, lengthBytes: bytes.length, sha256, body: Readable.from([bytes]) };
      const etag = await this.#bucket.uploads.sendPart({ key, uploadId }, part, signal);
      const parts = [{ etag, sha256: sha256.toString("base64") }];
      await this.#bucket.uploads.complete({ key, uploadId }, parts, {
        isConditional: false,
        signal,
      });
      await using copy = await this.open(key);
      const found = Buffer.alloc(bytes.length);
      await readFully(copy, found, 0);
      if (!found.equals(bytes))
        throw new Error("an object reads back differently from what was sent");
    } finally {
      await this.#bucket.uploads.abort({ key, uploadId });
      await this.#bucket.delete(key);
    }
  }

  async #abortUploadsOf(key: string): Promise<void> {
    if (await this.#bucket.uploads.abortAll(key)) return;
    throw new ImportError(
      "StoreUnavailable",
      `Cannot abort the uploads of ${this.urlOf(key)} in store "${this.name}": the server still lists some after ${String(ABORT_ROUNDS)} rounds`,
    );
  }
}

function eightDigitsOf(uploadId: string): string {
  return createHash("sha256").update(uploadId).digest("hex").slice(0, 8);
}
