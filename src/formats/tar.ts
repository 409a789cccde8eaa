const HEADER_BYTES = 512;
const CHECKSUM_AT = 148;
const CHECKSUM_BYTES = 8;
const USTAR_AT = 257;

/**
 * True if these bytes begin with a member of a tar archive: by its mark, or by its checksum for the
 * oldest kind.
 */
export function isTar(first: Buffer): boolean {
  if (first.length < HEADER_BYTES) return false;
  return first.toString("latin1", USTAR_AT, USTAR_AT + 5) === "ustar" || hasChecksum(first);
}

/**
 * True if the header states the sum of its bytes in octal, the bytes of the sum taken as spaces.
 */
function hasChecksum(first: Buffer): boolean {
  const text = first.toString("latin1", CHECKSUM_AT, CHECKSUM_AT + CHECKSUM_BYTES);
  const [, stated] = /^ *([0-7]{1,7})[ \0]/.exec(text) ?? [];
  if (stated === undefined || first[0] === 0) return false;
  const header = Buffer.from(first.subarray(0, HEADER_BYTES));
  header.fill(" ", CHECKSUM_AT, CHECKSUM_AT + CHECKSUM_BYTES);
  return header.reduce((sum, byte) => sum + byte, 0) === Number.parseInt(stated, 8);
}
