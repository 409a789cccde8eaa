import type { Readable } from "node:stream";
import { rootCertificates } from "node:tls";
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
  UploadPartCopyCommand,
  type CompletedPart,
  type ListMultipartUploadsCommandInput,
  type S3ClientConfig,
} from "@aws-sdk/client-s3";
import { hasS3Code, S3Failure } from "./s3-failure.ts";
import type { CopyPlace } from "./store.ts";

/** Settings of an {@link S3Bucket}. */
export interface S3BucketOptions {
  /** Name of the store, for messages. */
  readonly name: string;
  readonly bucket: string;
  /** Beginning of the names of all objects, such as `images/`. Default: empty */
  readonly prefix?: string | undefined;
  readonly region: string;
  /** Address of the server. Default: AWS in that region */
  readonly endpoint?: string | undefined;
  /** Certificates of authorities that are trusted beside the usual ones, in PEM. Default: none */
  readonly authorities?: string | undefined;
  /** True if URLs name the bucket in their path, not in their host. */
  readonly pathStyle: boolean;
  /**
   * `when_required` sends no checksum headers, for servers that refuse them. The bytes are signed
   * in either case.
   */
  readonly checksums: "when_supported" | "when_required";
  /**
   * Default: the credentials that the standard chain of AWS finds: environment, files, role of the
   * machine
   */
  readonly credentials?: S3ClientConfig["credentials"];
}

/** An object as its server describes it. */
export interface S3Object {
  readonly sizeBytes: number;
  readonly etag: string;
  /** Private name of the copy; undefined if another program wrote the object. */
  readonly part: string | undefined;
}

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

/** The facts about a part that a server needs to complete an upload. */
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

/** An object of some server. */
export type S3Place = Extract<CopyPlace, { kind: "s3" }>;

/** The start of a page of uploads: after this upload, or after all of this key. */
interface UploadMarker {
  readonly KeyMarker?: string | undefined;
  readonly UploadIdMarker?: string | undefined;
}

type ListMultipartUploadsPage = Omit<ListMultipartUploadsCommandInput, "Bucket">;

const CONNECT_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 30_000;
const NO_TIMEOUT = 0;
// Metadata names the attempt: ETag and size are the same for the copies of all attempts.
const PART_METADATA = "image-import-part";

// The SDK's own silent logger writes to the console when a stream fails.
const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

/**
 * The requests to one bucket, under one prefix. Failures are `S3Failure`s, or the reason of an
 * aborted signal.
 */
export class S3Bucket {
  readonly #options: S3BucketOptions;
  readonly #client: S3Client;
  readonly #sendsChecksums: boolean;

  constructor(options: S3BucketOptions) {
    this.#options = options;
    this.#sendsChecksums = options.checksums === "when_supported";
    const whenToSum = this.#sendsChecksums ? "WHEN_SUPPORTED" : "WHEN_REQUIRED";
    this.#client = new S3Client({
      region: options.region,
      ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
      ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
      forcePathStyle: options.pathStyle,
      requestChecksumCalculation: whenToSum,
      responseChecksumValidation: whenToSum,
      // It would need a new connection for every part.
      expectContinueHeader: false,
      logger: SILENT,
      requestHandler: {
        connectionTimeout: CONNECT_TIMEOUT_MS,
        requestTimeout: ANSWER_TIMEOUT_MS,
        throwOnRequestTimeout: true,
        ...(options.authorities === undefined
          ? {}
          : { httpsAgent: { ca: [...rootCertificates, options.authorities] } }),
        logger: SILENT,
      },
    });
  }

  /** `s3://bucket/key`, as the catalogue records it. */
  urlOf(key: string): string {
    const path = this.#nameOf(key).split("/").map(encodeURIComponent).join("/");
    return `s3://${this.#options.bucket}/${path}`;
  }

  /** The place of an object, for buckets of the same server. */
  placeOf(key: string, { etag }: S3Object): S3Place {
    const { endpoint: server = "AWS", bucket } = this.#options;
    return { kind: "s3", server, bucket, object: this.#nameOf(key), etag };
  }

  /** True if this bucket's server has that object, so that it may copy it. */
  hasServerOf(place: CopyPlace): place is S3Place {
    return place.kind === "s3" && place.server === (this.#options.endpoint ?? "AWS");
  }

  /** Fails unless the bucket exists and may be listed. */
  async head(): Promise<void> {
    await this.#request("HeadBucket", () =>
      this.#client.send(new HeadBucketCommand({ Bucket: this.#options.bucket })),
    );
  }

  /** Fails unless uploads may be listed, as a copy needs it. It writes nothing. */
  async requireUploads(): Promise<void> {
    await this.#listUploads({ Prefix: this.#prefix, MaxUploads: 1 });
  }

  /** The object of a key; undefined if there is none. */
  async find(key: string, signal?: AbortSignal): Promise<S3Object | undefined> {
    try {
      const command = new HeadObjectCommand(this.#object(key));
      const found = await this.#request(
        "HeadObject",
        (options) => this.#client.send(command, options),
        signal,
      );
      return {
        sizeBytes: found.ContentLength ?? 0,
        etag: found.ETag ?? "",
        part: found.Metadata?.[PART_METADATA],
      };
    } catch (error) {
      if (hasS3Code(error, "NotFound", "NoSuchKey")) return undefined;
      throw error;
    }
  }

  /** The bytes of an object from a position to its end. It fails if the ETag is another one. */
  async get(key: string, position: number, etag: string, signal?: AbortSignal): Promise<Readable> {
    const command = new GetObjectCommand({
      ...this.#object(key),
      Range: `bytes=${position}-`,
      IfMatch: etag,
    });
    const { Body } = await this.#request(
      "GetObject",
      (options) => this.#client.send(command, options),
      signal,
    );
    return Body as Readable;
  }

  /**
   * The text of a small object; undefined if there is none. A missing bucket is the failure
   * `NoSuchBucket`.
   */
  async getText(key: string, signal?: AbortSignal): Promise<string | undefined> {
    try {
      const command = new GetObjectCommand(this.#object(key));
      return await this.#request(
        "GetObject",
        async (options) => (await this.#client.send(command, options)).Body?.transformToString(),
        signal,
      );
    } catch (error) {
      if (hasS3Code(error, "NotFound", "NoSuchKey")) return undefined;
      throw error;
    }
  }

  /**
   * Puts a small object. A conditional put fails with `PreconditionFailed` if the key has an
   * object.
   */
  async putText(key: string, text: string, isConditional: boolean): Promise<void> {
    const command = new PutObjectCommand({
      ...this.#object(key),
      Body: text,
      ContentType: "text/plain",
      ...(isConditional ? { IfNoneMatch: "*" } : {}),
    });
    await this.#request("PutObject", (options) => this.#client.send(command, options));
  }

  /** Title in messages, such as `bucket "images" of https://s3.example.org, prefix "x/"`. */
  get title(): string {
    const { bucket, endpoint = "AWS" } = this.#options;
    const under = this.#prefix === "" ? "" : `, prefix "${this.#prefix}"`;
    return `bucket "${bucket}" of ${endpoint}${under}`;
  }

  /** Deletes an object. A missing object is a success. */
  async delete(key: string): Promise<void> {
    const command = new DeleteObjectCommand(this.#object(key));
    await this.#request("DeleteObject", () => this.#client.send(command));
  }

  /** All uploads of keys with that beginning. */
  async listUploads(keyPrefix: string, signal?: AbortSignal): Promise<S3UploadId[]> {
    const uploads: S3UploadId[] = [];
    let marker: UploadMarker = {};
    for (;;) {
      const page = await this.#listUploadsAfter(marker, keyPrefix, signal);
      for (const { Key, UploadId, Initiated, ChecksumAlgorithm } of page.Uploads ?? []) {
        if (Key === undefined || UploadId === undefined) continue;
        uploads.push({
          key: Key.slice(this.#prefix.length),
          uploadId: UploadId,
          initiatedAt: Initiated ?? new Date(0),
          // Not every server that keeps checksums names them here.
          isLikeOurs:
            ChecksumAlgorithm === undefined ||
            (ChecksumAlgorithm === "SHA256") === this.#sendsChecksums,
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
  async createUpload(
    key: string,
    part: string,
    signal: AbortSignal,
    { isCopy = false } = {},
  ): Promise<string> {
    const command = new CreateMultipartUploadCommand({
      ...this.#object(key),
      Metadata: { [PART_METADATA]: part },
      // Without it the server keeps no checksums of parts to compare with on resume.
      ...(this.#sendsChecksums && !isCopy ? { ChecksumAlgorithm: "SHA256" } : {}),
    });
    const { UploadId } = await this.#request(
      "CreateMultipartUpload",
      (options) => this.#client.send(command, options),
      signal,
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
        ...this.#object(key),
        UploadId: uploadId,
        PartNumberMarker: marker,
      });
      const page = await this.#request(
        "ListParts",
        (options) => this.#client.send(command, options),
        signal,
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
      ...this.#object(key),
      UploadId: uploadId,
      PartNumber: part.number,
      ContentLength: part.lengthBytes,
      Body: part.body,
      ...(this.#sendsChecksums
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
    const { ETag } = await this.#request(
      `UploadPart ${part.number}`,
      // The time until the response includes the time for sending, and has no limit.
      (options) => this.#client.send(command, { ...options, requestTimeout: NO_TIMEOUT }),
      signal,
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
      ...this.#object(key),
      UploadId: uploadId,
      PartNumber: number,
      CopySource: [from.bucket, ...from.object.split("/")].map(encodeURIComponent).join("/"),
      CopySourceIfMatch: from.etag,
      ...(range === undefined
        ? {}
        : { CopySourceRange: `bytes=${range.offset}-${range.offset + range.lengthBytes - 1}` }),
    });
    const { CopyPartResult } = await this.#request(
      `UploadPartCopy ${number}`,
      (options) => this.#client.send(command, { ...options, requestTimeout: NO_TIMEOUT }),
      signal,
    );
    return CopyPartResult?.ETag ?? "";
  }

  /**
   * Completes an upload with all of its parts, in order, as the object of its key. A conditional
   * request fails if the key has an object; not every server knows that condition.
   */
  async completeUpload(
    { key, uploadId }: Pick<S3UploadId, "key" | "uploadId">,
    parts: readonly ArrivedPart[],
    { isConditional, signal }: { readonly isConditional: boolean; readonly signal: AbortSignal },
  ): Promise<void> {
    const command = new CompleteMultipartUploadCommand({
      ...this.#object(key),
      UploadId: uploadId,
      MultipartUpload: {
        Parts: parts.map(({ etag, sha256 }, index): CompletedPart => ({
          PartNumber: index + 1,
          ETag: etag,
          ...(this.#sendsChecksums && sha256 !== undefined ? { ChecksumSHA256: sha256 } : {}),
        })),
      },
      ...(isConditional ? { IfNoneMatch: "*" } : {}),
    });
    await this.#request(
      "CompleteMultipartUpload",
      // It may take minutes; the idle timeout of the step ends it.
      (options) => this.#client.send(command, { ...options, requestTimeout: NO_TIMEOUT }),
      signal,
    );
  }

  /**
   * Aborts an upload: it accepts no part and cannot be completed any more. A missing upload is a
   * success.
   */
  async abortUpload({ key, uploadId }: Pick<S3UploadId, "key" | "uploadId">): Promise<void> {
    const command = new AbortMultipartUploadCommand({ ...this.#object(key), UploadId: uploadId });
    try {
      await this.#request("AbortMultipartUpload", () => this.#client.send(command));
    } catch (error) {
      if (!hasS3Code(error, "NoSuchUpload")) throw error;
    }
  }

  /** The failure of a request, for an error of the SDK. */
  failure(operation: string, error: unknown): S3Failure {
    const { name, bucket, endpoint = "AWS" } = this.#options;
    return new S3Failure(
      `use store "${name}" (bucket "${bucket}" of ${endpoint}): ${operation} failed`,
      error,
      { caFile: `\`stores.${name}.ca_file\``, address: `\`stores.${name}.endpoint\`` },
    );
  }

  async #listUploadsAfter(marker: UploadMarker, keyPrefix: string, signal?: AbortSignal) {
    const Prefix = this.#nameOf(keyPrefix);
    try {
      return await this.#listUploads({ Prefix, ...marker }, signal);
    } catch (error) {
      if (marker.UploadIdMarker === undefined || !hasS3Code(error, "InvalidArgument")) throw error;
      // That upload is gone, or the server (versitygw 1.8) does not know such markers. The rest of
      // its key is found when the uploads of that key are removed.
      return this.#listUploads({ Prefix, KeyMarker: marker.KeyMarker }, signal);
    }
  }

  async #listUploads(page: ListMultipartUploadsPage, signal?: AbortSignal) {
    const command = new ListMultipartUploadsCommand({ Bucket: this.#options.bucket, ...page });
    return this.#request(
      "ListMultipartUploads",
      (options) => this.#client.send(command, options),
      signal,
    );
  }

  get #prefix(): string {
    return this.#options.prefix ?? "";
  }

  #nameOf(key: string): string {
    return `${this.#prefix}${key}`;
  }

  #object(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#options.bucket, Key: this.#nameOf(key) };
  }

  async #request<T>(
    operation: string,
    send: (options: { readonly abortSignal?: AbortSignal }) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    signal?.throwIfAborted();
    try {
      return await send(signal === undefined ? {} : { abortSignal: signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw this.failure(operation, error);
    }
  }
}
