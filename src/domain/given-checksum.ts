import type { Digests } from "./digests.ts";
import { ImportError } from "./import-failure.ts";

const HEX_DIGITS = { md5: 32, sha256: 64, sha512: 128 } as const;

/** A digest that the owner of an image gives before the service has read a byte. */
export interface GivenChecksum {
  readonly algo: keyof typeof HEX_DIGITS;
  /** Lower-case hex. */
  readonly value: string;
}

/** The checksum and the size that the owner of an image expects. */
export interface Expected {
  readonly checksum?: GivenChecksum | undefined;
  /** In bytes. */
  readonly size?: number | undefined;
}

/** Reads `sha256:<hex>`, `sha512:<hex>` or `md5:<hex>`; undefined for any other text. */
export function parseChecksum(text: string): GivenChecksum | undefined {
  const [, algo = "", value = ""] = /^(md5|sha256|sha512):([0-9a-f]+)$/i.exec(text) ?? [];
  const known = algo.toLowerCase();
  if (known !== "md5" && known !== "sha256" && known !== "sha512") return undefined;
  return value.length === HEX_DIGITS[known]
    ? { algo: known, value: value.toLowerCase() }
    : undefined;
}

/**
 * Compares the size and the digests of the bytes with the expected ones.
 *
 * @returns false if the checksum's algorithm is not among the digests: then the bytes must be read
 * @throws ImportError `ChecksumMismatch`
 */
export function requireExpected(
  { checksum, size }: Expected,
  found: { readonly size: number; readonly digests: Digests | undefined },
): boolean {
  if (size !== undefined && size !== found.size) {
    throw new ImportError(
      "ChecksumMismatch",
      `Size mismatch: expected ${String(size)} bytes, got ${String(found.size)}`,
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
    `Checksum mismatch: expected ${algo}:${value}, got ${algo}:${found}`,
  );
}

function valueOf(algo: GivenChecksum["algo"], digests: Digests | undefined): string | undefined {
  if (digests === undefined) return undefined;
  if (algo === "md5") return digests.checksum;
  return algo === digests.osHashAlgo ? digests.osHashValue : undefined;
}
