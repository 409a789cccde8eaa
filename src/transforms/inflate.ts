import { createGunzip, createInflateRaw } from "node:zlib";
import type { Gunzip, InflateRaw } from "node:zlib";
import { BLOCK_BYTES } from "../bytes/block-size.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { ChunkReader } from "./chunk-reader.ts";

/**
 * Decompresses gzip of one or several members. zlib works in threads of its own, and checks the
 * crc32 and the length of every member.
 *
 * @throws ImportError `DecompressionFailed` when it is damaged, cut off, or followed by other bytes
 */
export async function* gunzip(reader: ChunkReader): AsyncGenerator<Buffer> {
  yield* throughEngine(createGunzip({ chunkSize: BLOCK_BYTES }), reader);
  // zlib continues with bytes that could be a member, and stops at a zero, after which other bytes
  // could be hidden.
  if ((await reader.peek(1)).length === 0) return;
  throw damaged(`other bytes follow its end, at byte ${reader.takenBytes}`);
}

/**
 * Decompresses deflate without a wrapper, and leaves the following bytes in the reader.
 *
 * @throws ImportError `DecompressionFailed` when it is damaged or cut off
 */
export async function* inflateRaw(reader: ChunkReader): AsyncGenerator<Buffer> {
  yield* throughEngine(createInflateRaw({ chunkSize: BLOCK_BYTES }), reader);
}

/** @returns an `ImportError` `DecompressionFailed` */
export function damaged(reason: string, cause?: unknown): ImportError {
  return new ImportError("DecompressionFailed", `Cannot decompress the image: ${reason}`, {
    cause,
  });
}

async function* throughEngine(
  engine: Gunzip | InflateRaw,
  reader: ChunkReader,
): AsyncGenerator<Buffer> {
  const feeding = feed(engine, reader).catch((error: unknown) => {
    engine.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  try {
    for await (const chunk of engine as AsyncIterable<Buffer>) yield chunk;
  } catch (error) {
    throw isZlibError(error) ? damaged(error.message, error) : error;
  } finally {
    engine.destroy();
    // No read may be in progress when the caller closes the source.
    await feeding;
  }
}

/**
 * Feeds the engine until the end of its data, and puts back the bytes that it did not take.
 */
async function feed(engine: Gunzip | InflateRaw, reader: ChunkReader): Promise<void> {
  for (let chunk = await reader.next(); chunk !== undefined; chunk = await reader.next()) {
    const takenBefore = engine.bytesWritten;
    await write(engine, chunk);
    const takenBytes = engine.bytesWritten - takenBefore;
    if (takenBytes < chunk.length) {
      reader.unread(chunk.subarray(takenBytes));
      break;
    }
  }
  engine.end();
}

/**
 * Writes a chunk. An engine that fails or is destroyed does not call back: its close counts then.
 */
async function write(engine: Gunzip | InflateRaw, chunk: Buffer): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const gone = (): void => {
      reject(new Error("Cannot write to the decompression: it was stopped"));
    };
    engine.once("close", gone);
    engine.write(chunk, (error) => {
      engine.off("close", gone);
      if (error == null) resolve();
      else reject(error);
    });
  });
}

function isZlibError(error: unknown): error is Error {
  return (
    error instanceof Error &&
    "code" in error &&
    typeof error.code === "string" &&
    error.code.startsWith("Z_")
  );
}
