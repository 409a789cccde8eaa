import type { Readable } from "node:stream";
import type { S3Bucket, S3Object } from "./s3-bucket.ts";
import type { S3Place } from "./s3-connection.ts";
import { retryPassing } from "./s3-retry.ts";
import type { OpenCopy } from "./store.ts";

const IDLE_TIMEOUT_MS = 30_000;
// A copy into another S3 store reads each part twice: for its hash, and while it is sent.
const STREAMS = 3;

/**
 * Reads an object. Reads that continue one another share a request, so that the server reads ahead;
 * a jump begins another request. A read fails when the object was replaced.
 */
export class S3Reader implements OpenCopy {
  readonly sizeBytes: number;
  readonly version: string;
  readonly place: S3Place;
  readonly #bucket: S3Bucket;
  readonly #key: string;
  readonly #signal: AbortSignal | undefined;
  /** Newest first. */
  #streams: ObjectStream[] = [];
  #lastRead: Promise<unknown> = Promise.resolve();

  /** @param signal - ends every read, with its reason */
  constructor(bucket: S3Bucket, key: string, object: S3Object, signal?: AbortSignal) {
    this.#bucket = bucket;
    this.#key = key;
    this.#signal = signal;
    this.place = bucket.placeOf(key, object);
    this.sizeBytes = object.sizeBytes;
    this.version = object.etag;
  }

  async read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesRead: number }> {
    const target = buffer.subarray(offset, offset + length);
    // One after the other: they share a stream.
    const reading = this.#lastRead.then(() =>
      retryPassing(() => this.#readSome(target, position), this.#signal),
    );
    this.#lastRead = reading.catch(() => undefined);
    return { bytesRead: await reading };
  }

  async isNameOf(): Promise<boolean> {
    return false;
  }

  async close(): Promise<void> {
    this.#dropAll();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#dropAll();
  }

  async #readSome(target: Buffer, position: number): Promise<number> {
    if (target.length === 0 || position >= this.sizeBytes) return 0;
    const stream = await this.#streamAt(position);
    try {
      return await stream.readSome(target);
    } catch (error) {
      // The next try opens another.
      this.#drop(stream);
      throw this.#bucket.failure("GetObject", error);
    }
  }

  /** The stream that stands at this position, or a new one. */
  async #streamAt(position: number): Promise<ObjectStream> {
    const found = this.#streams.find((stream) => stream.position === position);
    const stream =
      found ??
      new ObjectStream(
        await this.#bucket.get(this.#key, position, this.place.etag, this.#signal),
        position,
      );
    const others = this.#streams.filter((other) => other !== found);
    for (const other of others.splice(STREAMS - 1)) other.close();
    this.#streams = [stream, ...others];
    return stream;
  }

  #drop(stream: ObjectStream): void {
    stream.close();
    this.#streams = this.#streams.filter((other) => other !== stream);
  }

  #dropAll(): void {
    for (const stream of this.#streams.splice(0)) stream.close();
  }
}

/** The bytes of an object from some position on, as one request brings them. */
class ObjectStream {
  position: number;
  readonly #stream: Readable;
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(stream: Readable, position: number) {
    // It may also fail while no read waits for its next chunk; the next read meets the failure.
    stream.on("error", () => undefined);
    this.position = position;
    this.#stream = stream;
    this.#chunks = stream.iterator() as AsyncIterator<Buffer>;
  }

  async readSome(target: Buffer): Promise<number> {
    if (this.#rest.length === 0) this.#rest = await this.#nextChunk();
    const readBytes = this.#rest.copy(target);
    this.#rest = this.#rest.subarray(readBytes);
    this.position += readBytes;
    return readBytes;
  }

  close(): void {
    this.#stream.destroy();
  }

  async #nextChunk(): Promise<Buffer> {
    const timer = setTimeout(() => {
      this.#stream.destroy(new Error("the server sent no byte for 30 s"));
    }, IDLE_TIMEOUT_MS);
    try {
      const next = await this.#chunks.next();
      if (next.done === false) return next.value;
      throw new Error("the response ended before the object");
    } finally {
      clearTimeout(timer);
    }
  }
}
