import { rootCertificates } from "node:tls";
import { S3Client, type S3ClientConfig } from "@aws-sdk/client-s3";
import { S3Failure } from "./s3-failure.ts";
import type { CopyPlace } from "./store.ts";

/** Settings of an {@link S3Connection}. */
export interface S3ConnectionOptions {
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

/** An object of some server. */
export type S3Place = Extract<CopyPlace, { kind: "s3" }>;

const CONNECT_TIMEOUT_MS = 10_000;
const RESPONSE_TIMEOUT_MS = 30_000;

// The SDK's own silent logger writes to the console when a stream fails.
const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

/** Settings of one request. */
export interface RequestOptions {
  readonly signal?: AbortSignal | undefined;
  /** Longest wait for the response; 0 for no limit. Default: 30 s */
  readonly timeoutMs?: number;
}

/**
 * The connection to a server for the requests to one bucket, under one prefix. Failures are
 * `S3Failure`s, or the reason of an aborted signal.
 */
export class S3Connection {
  readonly options: S3ConnectionOptions;
  readonly client: S3Client;
  /** True if requests carry checksums. */
  readonly sendsChecksums: boolean;

  constructor(options: S3ConnectionOptions) {
    this.options = options;
    this.sendsChecksums = options.checksums === "when_supported";
    const whenToSum = this.sendsChecksums ? "WHEN_SUPPORTED" : "WHEN_REQUIRED";
    this.client = new S3Client({
      region: options.region,
      ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
      ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
      forcePathStyle: options.pathStyle,
      requestChecksumCalculation: whenToSum,
      responseChecksumValidation: whenToSum,
      // `Expect: 100-continue` would need a new connection for every part.
      expectContinueHeader: false,
      logger: SILENT,
      requestHandler: {
        connectionTimeout: CONNECT_TIMEOUT_MS,
        requestTimeout: RESPONSE_TIMEOUT_MS,
        throwOnRequestTimeout: true,
        ...(options.authorities === undefined
          ? {}
          : { httpsAgent: { ca: [...rootCertificates, options.authorities] } }),
        logger: SILENT,
      },
    });
  }

  /** Beginning of the names of all objects. */
  get prefix(): string {
    return this.options.prefix ?? "";
  }

  /** Name of the object of a key. */
  nameOf(key: string): string {
    return `${this.prefix}${key}`;
  }

  /** The object of a key, as requests name it. */
  objectOf(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.options.bucket, Key: this.nameOf(key) };
  }

  /**
   * Sends a request.
   *
   * @param operation - name of the operation, for messages
   * @param send - sends it with the client, with the options of the SDK that it gets
   */
  async request<T>(
    operation: string,
    send: (
      client: S3Client,
      options: { readonly abortSignal?: AbortSignal; readonly requestTimeout?: number },
    ) => Promise<T>,
    { signal, timeoutMs }: RequestOptions = {},
  ): Promise<T> {
    signal?.throwIfAborted();
    try {
      return await send(this.client, {
        ...(signal === undefined ? {} : { abortSignal: signal }),
        ...(timeoutMs === undefined ? {} : { requestTimeout: timeoutMs }),
      });
    } catch (error) {
      signal?.throwIfAborted();
      throw this.failure(operation, error);
    }
  }

  /** The failure of a request, for an error of the SDK. */
  failure(operation: string, error: unknown): S3Failure {
    const { name, bucket, endpoint = "AWS" } = this.options;
    return new S3Failure(
      `use store "${name}" (bucket "${bucket}" of ${endpoint}): ${operation} failed`,
      error,
      { caFile: `\`stores.${name}.ca_file\``, address: `\`stores.${name}.endpoint\`` },
    );
  }
}
