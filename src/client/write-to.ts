import type { Writable } from "node:stream";
import { ImportError } from "../domain/import-failure.ts";

/**
 * Waits until the stream has taken the bytes.
 *
 * @throws ImportError `UnusableFile` if its reader has ended; the reason of the signal
 * @internal
 */
export async function writeTo(
  stream: Writable,
  bytes: Buffer,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const leave = (): void => {
      reject(signal?.reason as Error);
    };
    signal?.addEventListener("abort", leave, { once: true });
    // A copy of the bytes: after an abort the block is reused while the stream still has it.
    stream.write(Buffer.from(bytes), (error) => {
      signal?.removeEventListener("abort", leave);
      if (error == null) resolve();
      else reject(unwritable(error));
    });
  });
}

function unwritable(cause: Error): ImportError {
  return new ImportError("UnusableFile", `Cannot write the image: ${cause.message}`, {
    cause,
    hint: "Read the output to its end, or write to a file.",
  });
}
