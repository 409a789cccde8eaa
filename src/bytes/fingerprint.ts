import type { BigIntStats } from "node:fs";

/**
 * The state of a file as its inode shows it, without its bytes. Decimal strings: the numbers
 * outgrow 2^53 and travel through JSON and Postgres.
 */
export interface Fingerprint {
  readonly dev: string;
  readonly ino: string;
  readonly sizeBytes: string;
  /** Time of the last change of the bytes, in ns since the Unix epoch. */
  readonly mtimeNs: string;
  /**
   * Time of the last change of the bytes, the mode, the owner or the number of links, in ns since
   * the Unix epoch.
   */
  readonly ctimeNs: string;
}

/** An open file with a status; a `FileHandle` is one. */
export interface Fingerprintable {
  stat(options: { bigint: true }): Promise<BigIntStats>;
}

/** The fingerprint of an open file, as it is now. */
export async function fingerprintOf(handle: Fingerprintable): Promise<Fingerprint> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await handle.stat({ bigint: true });
  return {
    dev: String(dev),
    ino: String(ino),
    sizeBytes: String(size),
    mtimeNs: String(mtimeNs),
    ctimeNs: String(ctimeNs),
  };
}

/**
 * Compares a file with the fingerprint that was recorded with its digests.
 * - `same`: the digests still hold;
 * - `touched`: only ctime or dev differ, as after a link, a chmod or a remount. The bytes are
 *   probably the same;
 * - `changed`: inode, size or mtime differ. The bytes may be others.
 */
export function compareFingerprints(
  recorded: Fingerprint,
  now: Fingerprint,
): "same" | "touched" | "changed" {
  const holdsSameBytes =
    recorded.ino === now.ino &&
    recorded.sizeBytes === now.sizeBytes &&
    recorded.mtimeNs === now.mtimeNs;
  if (!holdsSameBytes) return "changed";
  return recorded.dev === now.dev && recorded.ctimeNs === now.ctimeNs ? "same" : "touched";
}
