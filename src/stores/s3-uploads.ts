import type { Readable } from "node:stream";
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
  type CompletedPart,
  type ListMultipartUploadsCommandInput,
} from "@aws-sdk/client-s3";
import type { S3Connection, S3Place } from "./s3-connection.ts";
import { hasS3Code } from "./s3-failure.ts";

/**
 * The limit of rounds of aborts: AWS warns that a part in flight may survive an abort. More rounds
 * were never needed.
 */
export const ABORT_ROUNDS = 10;

/** An upload that is neither complete nor aborted. */
export interface S3UploadId {
  readonly key: string;
  readonly uploadId: string;
  readonly initiatedAt: Date;
  /** True if its parts have checksums as this bucket's do; the server would refuse others. */
  readonly isLikeOurs: boolean;
}

/** A part that has arrived. */
export interface SentPart {
  readonly etag: string;
  readonly sizeBytes: number;
  /** In base64; undefined if the server keeps none, as for a part that it copied itself. */
  readonly sha256: string | undefined;
}

/** The values of a part that the server needs to complete an upload. */
export type ArrivedPart = Pick<SentPart, "etag" | "sha256">;

/** A part to send. */
export interface PartToSend {
  readonly number: number;
  readonly lengthBytes: number;
  readonly sha256: Buffer;
  readonly body: Readable;
}

/** A part for the server to copy. */
export interface PartToCopy {
  readonly number: number;
  readonly from: S3Place;
  /** The bytes of the source; undefined for all of them. */
  readonly range: { readonly offset: number; readonly lengthBytes: number } | undefined;
}

/** The start of a page of uploads: after this upload, or after all of this key. */
interface UploadMarker {
  readonly KeyMarker?: string | undefined;
  readonly UploadIdMarker?: string | undefined;
}

type ListMultipartUploadsPage = Omit<ListMultipartUploadsCommandInput, "Bucket">;

/**
 * Metadata of an object that holds the private name of its copy: ETag and size are the same for the
 * copies of all attempts.
 */
export const PART_METADATA = "image-import-part";

const NO_TIMEOUT = 0;

/** The multipart uploads of one bucket. Failures are those of an {@link S3Connection}. */
export class S3Uploads {
  readonly #connection: S3Connection;

  constructor(connection: S3Connection) {
    this.#connection = connection;
  }

  /** Fails unless uploads may be listed, as a copy needs it. It writes nothing. */
  async requireAccess(): Promise<void> {
    await this.#listPage({ Prefix: this.#connection.prefix, MaxUploads: 1 });
  }

  /** All uploads of keys with that beginning. */
  async list(keyPrefix: string, signal?: AbortSignal): Promise<S3UploadId[]> {
    const uploads: S3UploadId[] = [];
    let marker: UploadMarker = {};
    for (;;) {
      const page = await this.#listAfter(marker, keyPrefix, signal);
      for (const { Key, UploadId, Initiated, ChecksumAlgorithm } of page.Uploads ?? []) {
        if (Key === undefined || UploadId === undefined) continue;
        uploads.push({
          key: Key.slice(this.#connection.prefix.length),
          uploadId: UploadId,
          initiatedAt: Initiated ?? new Date(0),
          // Not every server that keeps checksums names them here.
          isLikeOurs:
            ChecksumAlgorithm === undefined ||
            (ChecksumAlgorithm === "SHA256") === this.#connection.sendsChecksums,
        });
      }
      if (page.IsTruncated !== true) return uploads;
      marker = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
    }
  }

  /**
   * Begins an upload of a key for a private name. With `isCopy` the server will copy its parts: not
   * every server computes their checksums.
   *
   * @returns its id
   */
  async create(
    key: string,
    part: string,
    signal: AbortSignal,
    { isCopy = false } = {},
  ): Promise<string> {
    const command = new CreateMultipartUploadCommand({
      ...this.#connection.objectOf(key),
      Metadata: { [PART_METADATA]: part },
      // Without it the server keeps no checksums of parts to compare with on resume.
      ...(this.#connection.sendsChecksums && !isCopy ? { ChecksumAlgorithm: "SHA256" } : {}),
    });
    const { UploadId } = await this.#connection.request(
      "CreateMultipartUpload",
      (client, options) => client.send(command, options),
      { signal },
    );
    return UploadId ?? "";
  }

  /** The parts of an upload that have arrived, by number. */
  async listParts(
    { key, uploadId }: Pick<S3UploadId, "key" | "uploadId">,
    signal: AbortSignal,
  ): Promise<Map<number, SentPart>> {
    const parts = new Map<number, SentPart>();
    let marker: string | undefined;
    // Not the SDK's paginator: some servers name a next marker on the last page, too, and it would
    // never end.
    do {
      const command = new ListPartsCommand({
        ...this.#connection.objectOf(key),
        UploadId: uploadId,
        PartNumberMarker: marker,
      });
      const page = await this.#connection.request(
        "ListParts",
        (client, options) => client.send(command, options),
        { signal },
      );
      for (const { PartNumber, ETag, Size, ChecksumSHA256 } of page.Parts ?? []) {
        if (PartNumber === undefined || ETag === undefined) continue;
        parts.set(PartNumber, { etag: ETag, sizeBytes: Size ?? 0, sha256: ChecksumSHA256 });
      }
      marker = page.IsTruncated === true ? page.NextPartNumberMarker : undefined;
    } while (marker !== undefined);
    return parts;
  }

  /** Sends a part. The server refuses bytes with another SHA-256. @returns its ETag */
  async sendPart(
    { key, uploadId }: Pick<S3UploadId, "key" | "uploadId">,
    part: PartToSend,
    signal: AbortSignal,
  ): Promise<string> {
    const command = new UploadPartCommand({
      ...this.#connection.objectOf(key),
      UploadId: uploadId,
      PartNumber: part.number,
      ContentLength: part.lengthBytes,
      Body: part.body,
      ...(this.#connection.sendsChecksums
        ? { ChecksumAlgorithm: "SHA256", ChecksumSHA256: part.sha256.toString("base64") }
        : {}),
    });
    // Signed with the hash of its bytes, which every S3 server checks, with or without checksums.
    // The SDK would wrap a stream in chunks of its own instead, which some servers refuse.
    command.middlewareStack.add(
      (next) => (args) => {
        const { headers } = args.request as { headers: Record<string, string> };
        headers["x-amz-content-sha256"] = part.sha256.toString("hex");
        return next(args);
      },
      { step: "build", name: "signPayload" },
    );
    const { ETag } = await this.#connection.request(
      `UploadPart ${part.number}`,
      // The time until the response includes the time for sending, and has no limit.
      (client, options) => client.send(command, options),
      { signal, timeoutMs: NO_TIMEOUT },
    );
    return ETag ?? "";
  }

  /**
   * Lets the server copy a part from an object that it has. It fails if the ETag of that object is
   * another one. The SDK repeats the request after passing failures.
   *
   * @returns the ETag of the part
   */
  async copyPart(
    { key, uploadId }: Pick<S3UploadId, "key" | "uploadId">,
    { number, from, range }: PartToCopy,
    signal: AbortSignal,
  ): Promise<string> {
    const command = new UploadPartCopyCommand({
      ...this.#connection.objectOf(key),
      UploadId: uploadId,
      PartNumber: number,
      CopySource: [from.bucket, ...from.object.split("/")].map(encodeURIComponent).join("/"),
      CopySourceIfMatch: from.etag,
      ...(range === undefined
        ? {}
        : { CopySourceRange: `bytes=${range.offset}-${range.offset + range.lengthBytes - 1}` }),
    });
    const { CopyPartResult } = await this.#connection.request(
      `UploadPartCopy ${number}`,
      (client, options) => client.send(command, options),
      { signal, timeoutMs: NO_TIMEOUT },
    );
    return CopyPartResult?.ETag ?? "";
  }

  /**
   * Completes an upload with all of its parts, in order, as the object of its key. A conditional
   * request fails if the key has an object; not every server knows that condition.
   */
  async complete(
    { key, uploadId }: Pick<S3UploadId, "key" | "uploadId">,
    parts: readonly ArrivedPart[],
    { isConditional, signal }: { readonly isConditional: boolean; readonly signal: AbortSignal },
  ): Promise<void> {
    const command = new CompleteMultipartUploadCommand({
      ...this.#connection.objectOf(key),
      UploadId: uploadId,
      MultipartUpload: {
        Parts: parts.map(({ etag, sha256 }, index): CompletedPart => ({
          PartNumber: index + 1,
          ETag: etag,
          ...(this.#connection.sendsChecksums && sha256 !== undefined
            ? { ChecksumSHA256: sha256 }
            : {}),
        })),
      },
      ...(isConditional ? { IfNoneMatch: "*" } : {}),
    });
    await this.#connection.request(
      "CompleteMultipartUpload",
      // It may take minutes; the idle timeout of the step ends it.
      (client, options) => client.send(command, options),
      { signal, timeoutMs: NO_TIMEOUT },
    );
  }

  /**
   * Aborts an upload: it accepts no part and cannot be completed any more. A missing upload is a
   * success.
   */
  async abort({ key, uploadId }: Pick<S3UploadId, "key" | "uploadId">): Promise<void> {
    const command = new AbortMultipartUploadCommand({
      ...this.#connection.objectOf(key),
      UploadId: uploadId,
    });
    try {
      await this.#connection.request("AbortMultipartUpload", (client) => client.send(command));
    } catch (error) {
      if (!hasS3Code(error, "NoSuchUpload")) throw error;
    }
  }

  /**
   * Aborts uploads of a key until the server lists none of them any more: it can keep an upload for
   * a part that is still arriving, which then needs another abort (AWS, AbortMultipartUpload).
   *
   * @param isMeant - chooses among the uploads of the key. Default: all
   * @returns false if the server still lists some after {@link ABORT_ROUNDS} rounds
   */
  async abortAll(
    key: string,
    isMeant: (upload: S3UploadId) => boolean = () => true,
  ): Promise<boolean> {
    for (let round = 0; round < ABORT_ROUNDS; round += 1) {
      const uploads = (await this.list(key)).filter((each) => each.key === key && isMeant(each));
      if (uploads.length === 0) return true;
      for (const upload of uploads) await this.abort(upload);
    }
    return false;
  }

  async #listAfter(marker: UploadMarker, keyPrefix: string, signal?: AbortSignal) {
    const Prefix = this.#connection.nameOf(keyPrefix);
    try {
      return await this.#listPage({ Prefix, ...marker }, signal);
    } catch (error) {
      if (marker.UploadIdMarker === undefined || !hasS3Code(error, "InvalidArgument")) throw error;
      // That upload is gone, or the server (versitygw 1.8) does not know such markers. The rest of
      // its key is found when the uploads of that key are removed.
      return this.#listPage({ Prefix, KeyMarker: marker.KeyMarker }, signal);
    }
  }

  async #listPage(page: ListMultipartUploadsPage, signal?: AbortSignal) {
    const command = new ListMultipartUploadsCommand({
      Bucket: this.#connection.options.bucket,
      ...page,
    });
    return this.#connection.request(
      "ListMultipartUploads",
      (client, options) => client.send(command, options),
      { signal },
    );
  }
}
