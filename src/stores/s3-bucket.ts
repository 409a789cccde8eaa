import type { Readable } from "node:stream";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import { S3Connection, type S3ConnectionOptions, type S3Place } from "./s3-connection.ts";
import { hasS3Code, type S3Failure } from "./s3-failure.ts";
import { PART_METADATA, S3Uploads } from "./s3-uploads.ts";
import type { CopyPlace } from "./store.ts";

/** An object as its server describes it. */
export interface S3Object {
  readonly sizeBytes: number;
  readonly etag: string;
  /** Private name of the copy; undefined if another program wrote the object. */
  readonly part: string | undefined;
}

/** The objects of one bucket, under one prefix. Failures are those of an {@link S3Connection}. */
export class S3Bucket {
  /** The multipart uploads of this bucket. */
  readonly uploads: S3Uploads;
  readonly #connection: S3Connection;

  constructor(options: S3ConnectionOptions) {
    this.#connection = new S3Connection(options);
    this.uploads = new S3Uploads(this.#connection);
  }

  /** `s3://bucket/key`, as the catalogue records it. */
  urlOf(key: string): string {
    const path = this.#connection.nameOf(key).split("/").map(encodeURIComponent).join("/");
    return `s3://${this.#connection.options.bucket}/${path}`;
  }

  /** The place of an object, for buckets of the same server. */
  placeOf(key: string, { etag }: S3Object): S3Place {
    const { endpoint: server = "AWS", bucket } = this.#connection.options;
    return { kind: "s3", server, bucket, object: this.#connection.nameOf(key), etag };
  }

  /** True if this bucket's server has that object, so that it may copy it. */
  hasServerOf(place: CopyPlace): place is S3Place {
    return place.kind === "s3" && place.server === (this.#connection.options.endpoint ?? "AWS");
  }

  /** Fails unless the bucket exists and may be listed. */
  async head(): Promise<void> {
    await this.#connection.request("HeadBucket", (client) =>
      client.send(new HeadBucketCommand({ Bucket: this.#connection.options.bucket })),
    );
  }

  /** The object of a key; undefined if there is none. */
  async find(key: string, signal?: AbortSignal): Promise<S3Object | undefined> {
    try {
      const command = new HeadObjectCommand(this.#connection.objectOf(key));
      const found = await this.#connection.request(
        "HeadObject",
        (client, options) => client.send(command, options),
        { signal },
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
      ...this.#connection.objectOf(key),
      Range: `bytes=${position}-`,
      IfMatch: etag,
    });
    const { Body } = await this.#connection.request(
      "GetObject",
      (client, options) => client.send(command, options),
      { signal },
    );
    return Body as Readable;
  }

  /**
   * The text of a small object; undefined if there is none. A missing bucket is the failure
   * `NoSuchBucket`.
   */
  async getText(key: string, signal?: AbortSignal): Promise<string | undefined> {
    try {
      const command = new GetObjectCommand(this.#connection.objectOf(key));
      return await this.#connection.request(
        "GetObject",
        async (client, options) => (await client.send(command, options)).Body?.transformToString(),
        { signal },
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
      ...this.#connection.objectOf(key),
      Body: text,
      ContentType: "text/plain",
      ...(isConditional ? { IfNoneMatch: "*" } : {}),
    });
    await this.#connection.request("PutObject", (client, options) => client.send(command, options));
  }

  /** Title in messages, such as `bucket "images" of https://s3.example.org, prefix "x/"`. */
  get title(): string {
    const { bucket, endpoint = "AWS" } = this.#connection.options;
    const under = this.#connection.prefix === "" ? "" : `, prefix "${this.#connection.prefix}"`;
    return `bucket "${bucket}" of ${endpoint}${under}`;
  }

  /** Deletes an object. A missing object is a success. */
  async delete(key: string): Promise<void> {
    const command = new DeleteObjectCommand(this.#connection.objectOf(key));
    await this.#connection.request("DeleteObject", (client) => client.send(command));
  }

  /** The failure of a request, for an error of the SDK. */
  failure(operation: string, error: unknown): S3Failure {
    return this.#connection.failure(operation, error);
  }
}
