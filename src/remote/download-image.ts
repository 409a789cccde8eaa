import type { Writable } from "node:stream";
import { writeFully } from "../bytes/positional-io.ts";
import type { ImageView } from "../client/image-view.ts";
import { writeNewFile } from "../client/new-file.ts";
import type { ReadOptions } from "../client/read-image.ts";
import { writeTo } from "../client/write-to.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { ApiConnection } from "./api-connection.ts";
import { Patience } from "./patience.ts";
import { RunningDigests } from "./running-digests.ts";

/** The API that has the bytes, and the receiver of notes. */
export interface Source {
  readonly api: ApiConnection;
  /** Takes the reason of a wait, for the user. */
  readonly note: (text: string) => void;
}

/** Writes the bytes of a position. */
type Sink = (bytes: Buffer, position: number) => Promise<unknown>;

/**
 * Reads an active image, and compares its digests at the end. After a failure of the connection or
 * of the API, the download continues with the next byte.
 *
 * @throws ImportError `ImageConflict` if the image is not active, `DigestMismatch`,
 *   `UnusableFile`, `FileNotFound`
 */
export async function downloadImage(
  source: Source,
  imageId: string,
  options: ReadOptions,
): Promise<ImageView> {
  const path = `/v1/images/${imageId}`;
  const image = await source.api.json<ImageView>({ method: "GET", path });
  if (image.status !== "active") {
    throw new ImportError(
      "ImageConflict",
      `Cannot read image "${imageId}": it is ${image.status}, and only an active image is read`,
    );
  }
  const { to } = options;
  if (typeof to === "string") {
    await writeNewFile(to, async (target) => {
      await readAll(source, image, options, (bytes, position) =>
        writeFully(target, bytes, position),
      );
    });
  } else {
    await readToStream(source, image, options, to);
  }
  return image;
}

async function readToStream(
  source: Source,
  image: ImageView,
  options: ReadOptions,
  stream: Writable,
): Promise<void> {
  // `writeTo` rejects if a write fails. Without a listener the event would end this process, too.
  const ignore = (): void => undefined;
  stream.on("error", ignore);
  await readAll(source, image, options, (bytes) => writeTo(stream, bytes, options.signal));
  stream.off("error", ignore);
}

async function readAll(
  source: Source,
  image: ImageView,
  { report, signal }: ReadOptions,
  sink: Sink,
): Promise<void> {
  const sizeBytes = image.size ?? 0;
  const digests = new RunningDigests(image.os_hash_algo ?? undefined);
  const patience = new Patience("the download continues when the API answers", {
    ...source,
    signal,
  });
  while (digests.doneBytes < sizeBytes) {
    const from = digests.doneBytes;
    try {
      for await (const bytes of bytesFrom(source.api, image.id, digests.doneBytes, signal)) {
        const position = digests.doneBytes;
        await sink(bytes, position);
        digests.update(bytes, position);
        patience.renew();
        report?.(digests.doneBytes, sizeBytes);
      }
      if (digests.doneBytes === from) throw source.api.unavailable(new Error("It sent no bytes"));
    } catch (error) {
      await patience.wait(error);
    }
  }
  digests.requireSame(
    `The bytes that came are not those of image "${image.id}"`,
    image,
    "Discard the output, and run the command again.",
  );
}

async function* bytesFrom(
  api: ApiConnection,
  imageId: string,
  offset: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const { statusCode, body } = await api.send({
    method: "GET",
    path: `/v2/images/${imageId}/file`,
    ...(offset === 0 ? {} : { headers: { range: `bytes=${String(offset)}-` } }),
    signal,
  });
  // A proxy may drop the range: then the answer begins with byte 0.
  let superfluous = statusCode === 206 ? 0 : offset;
  const iterator = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  try {
    for (;;) {
      const next = await iterator.next().catch((error: unknown) => {
        throw api.unavailable(error);
      });
      if (next.done === true) return;
      const bytes = next.value.subarray(superfluous);
      superfluous -= next.value.length - bytes.length;
      if (bytes.length > 0) yield bytes;
    }
  } finally {
    body.destroy();
  }
}
