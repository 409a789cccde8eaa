import type { ImageBytes } from "./image-bytes.ts";

/** Types of header extensions that matter here (docs/interop/qcow2.txt). */
export const EXTENSION = { end: 0, dataFile: 0x44415441, bitmaps: 0x23852875, crypto: 0x0537be77 };

/** The extensions of a header: their data by type, and the reason why not all can be read. */
export interface Extensions {
  readonly extensions: ReadonlyMap<number, Buffer>;
  readonly problem: string | undefined;
}

/**
 * Reads the header extensions, which follow the header in its cluster.
 *
 * @param headerBytes - the place where they begin
 * @param clusterBytes - the place before which they must end
 */
export function extensionsOf(
  image: ImageBytes,
  headerBytes: number,
  clusterBytes: number,
): Extensions {
  const { first } = image;
  const limit = Math.min(clusterBytes, first.length);
  const extensions = new Map<number, Buffer>();
  let position = headerBytes;
  while (position + 8 <= limit) {
    const type = first.readUInt32BE(position);
    const lengthBytes = first.readUInt32BE(position + 4);
    // QEMU also requires this of the end mark, which has no data.
    if (position + 8 + lengthBytes > clusterBytes) break;
    if (type === EXTENSION.end) return { extensions, problem: undefined };
    // Of two extensions of a type, some programs follow the first and some the last.
    if (extensions.has(type))
      return { extensions, problem: "its qcow2 header has an extension twice" };
    extensions.set(type, first.subarray(position + 8, Math.min(position + 8 + lengthBytes, limit)));
    position += 8 + Math.ceil(lengthBytes / 8) * 8;
  }
  if (position === limit) return { extensions, problem: undefined };
  return {
    extensions,
    problem: "its qcow2 header extensions do not end within its first cluster",
  };
}
