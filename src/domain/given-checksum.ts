import type { Digests } from "./digests.ts";
import { ImportError } from "./import-failure.ts";

const HEX_DIGITS = { md5: 32, sha256: 64, sha512: 128 } as const;

/** A digest that the owner of an image gives, before anybody of ours has seen a byte. */
export interface GivenChecksum {
  readonly algo: keyof typeof HEX_DIGITS;
  /** Lower-case hex. */
  readonly value: string;
}

/** What the bytes of an image must be, as far as its owner says. */
export interface Expected {
  readonly checksum?: GivenChecksum | undefined;
  /** In bytes. */
  readonly size?: number | undefined;
}

/** Reads `sha256:<hex>`, `sha512:<hex>` or `md5:<hex>`; undefined when it is none of them. */
export function parseChecksum(text: string): GivenChecksum | undefined {
  const [, algo = "", value = ""] = /^(md5|sha256|sha512):([0-9a-f]+)$/i.exec(text) ?? [];
  const known = algo.toLowerCase();
  if (known !== "md5" && known !== "sha256" && known !== "sha512") return undefined;
  return value.length === HEX_DIGITS[known]
    ? { algo: known, value: value.toLowerCase() }
    : undefined;
}

/**
 * Compares what was found with what was given, as far as it is known.
 *
 * @returns false when the algorithm of the checksum is not among the digests, so that nobody can
 *   say yet
 * @throws ImportError `ChecksumMismatch`
 */
export function requireExpected(
  { checksum, size }: Expected,
  found: { readonly size: number; readonly digests: Digests | undefined },
): boolean {
  if (size !== undefined && size !== found.size) {
    throw new ImportError(
      "ChecksumMismatch",
      `The data has ${String(found.size)} bytes, and ${String(size)} were announced`,
    );
  }
  if (checksum === undefined) return true;
  const value = valueOf(checksum.algo, found.digests);
  if (value === undefined) return false;
  requireSame(checksum, value);
  return true;
}

/** @throws ImportError `ChecksumMismatch` */
export function requireSame({ algo, value }: GivenChecksum, found: string): void {
  if (value === found) return;
  throw new ImportError(
    "ChecksumMismatch",
    `The data hashes to ${algo}:${found}, and ${algo}:${value} was announced`,
  );
}

function valueOf(algo: GivenChecksum["algo"], digests: Digests | undefined): string | undefined {
  if (digests === undefined) return undefined;
  if (algo === "md5") return digests.checksum;
  return algo === digests.osHashAlgo ? digests.osHashValue : undefined;
}
