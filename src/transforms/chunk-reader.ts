import { ImportError } from "../domain/import-failure.ts";

/**
 * Reads bytes that come in chunks of any size. The caller can put back bytes that it does not need.
 */
export class ChunkReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);
  #takenBytes = 0;

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** The number of bytes that were taken and not put back. */
  get takenBytes(): number {
    return this.#takenBytes;
  }

  /** Takes the bytes that have arrived; undefined at the end. */
  async next(): Promise<Buffer | undefined> {
    const chunk = await this.#fetch();
    this.#rest = Buffer.alloc(0);
    this.#takenBytes += chunk?.length ?? 0;
    return chunk;
  }

  /** Puts back the end of the bytes that were taken last. */
  unread(rest: Buffer): void {
    this.#rest = this.#rest.length === 0 ? rest : Buffer.concat([rest, this.#rest]);
    this.#takenBytes -= rest.length;
  }

  /** Returns the next bytes, fewer only at the end, without taking them. For few bytes only. */
  async peek(lengthBytes: number): Promise<Buffer> {
    const bytes = await this.#upTo(lengthBytes);
    this.unread(bytes);
    return bytes;
  }

  /**
   * Takes exactly this many bytes. For few bytes only.
   *
   * @throws ImportError `DecompressionFailed` when there are fewer
   */
  async read(lengthBytes: number): Promise<Buffer> {
    const bytes = await this.#upTo(lengthBytes);
    if (bytes.length === lengthBytes) return bytes;
    throw new ImportError(
      "DecompressionFailed",
      `Cannot decompress the image: it ends too early, after ${this.#takenBytes} bytes`,
    );
  }

  /** Closes the source of the chunks. No read may be in progress. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  async #upTo(lengthBytes: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = lengthBytes; left > 0;) {
      const chunk = await this.next();
      if (chunk === undefined) break;
      if (chunk.length > left) this.unread(chunk.subarray(left));
      parts.push(chunk.subarray(0, left));
      left -= Math.min(left, chunk.length);
    }
    return Buffer.concat(parts);
  }

  async #fetch(): Promise<Buffer | undefined> {
    if (this.#rest.length > 0) return this.#rest;
    for (;;) {
      const next = await this.#chunks.next();
      if (next.done === true) return undefined;
      if (next.value.length > 0) return next.value;
    }
  }
}
