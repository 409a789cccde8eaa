import type { FileHandle } from "node:fs/promises";
import { ImportError } from "../domain/import-failure.ts";
import { appendStaged, type StagingAppend } from "./append-staged.ts";
import type { ByteSource } from "./byte-source.ts";

/**
 * Copies the first bytes of a file into a part, or continues such a copy at the end of the part.
 *
 * @throws ImportError `StagingUnavailable` if the file has fewer bytes; what `appendStaged` throws
 */
export async function copyPart(
  source: FileHandle,
  target: FileHandle,
  lengthBytes: number,
  options: Omit<StagingAppend, "startAt">,
): Promise<void> {
  const startAt = Math.min((await target.stat()).size, lengthBytes);
  const rest = bytesBetween(source, startAt, lengthBytes);
  const endBytes = await appendStaged(rest, target, { ...options, startAt });
  if (endBytes === lengthBytes) return;
  throw new ImportError(
    "StagingUnavailable",
    `Cannot copy a part: expected ${String(lengthBytes)} bytes, got ${String(endBytes)}`,
  );
}

function bytesBetween(file: FileHandle, start: number, end: number): ByteSource {
  let position = start;
  return {
    read: async (buffer) => {
      const most = Math.min(buffer.length, end - position);
      if (most === 0) return 0;
      const { bytesRead } = await file.read(buffer, 0, most, position);
      position += bytesRead;
      return bytesRead;
    },
  };
}
