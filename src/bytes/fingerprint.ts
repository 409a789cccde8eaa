import type { BigIntStats } from "node:fs";

/**
 * What tells one state of a file from another without reading it. Decimal strings: the numbers
 * outgrow 2^53 and travel through JSON and Postgres.
 */
export interface Fingerprint {
  readonly dev: string;
  readonly ino: string;
  readonly sizeBytes: string;
  /** When the bytes last changed, in ns since the Unix epoch. */
  readonly mtimeNs: string;
  /**
   * When the bytes, the mode, the owner or the number of links last changed, in ns since the Unix
   * epoch.
   */
  readonly ctimeNs: string;
}

/** What can be fingerprinted; a `FileHandle` is one. */
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
 * What must be done about a file whose digests were recorded with a fingerprint:
 * - `same`: nothing, the digests hold;
 * - `touched`: only ctime or dev differ, which a link, a chmod or a remount does. Hash again, and
 *   take the result;
 * - `changed`: inode, size or mtime differ. Hash again and compare; another digest means that the
 *   data changed.
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
