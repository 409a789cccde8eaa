// The polynomial of crc32 (zlib, IEEE 802.3), its bits reversed.
const POLYNOMIAL = 0xedb88320;

/**
 * The crc32 of some bytes and a run of zeros after them, without looking at a single zero: appending them multiplies the
 * crc by a power of x, modulo the polynomial. As `crc32_combine` of zlib does it.
 *
 * @param crc - of the bytes before
 * @param crcOfZeros - crc32 of the run alone
 * @param factor - {@link factorOfLength} of the run
 */
export function appendZeros(crc: number, crcOfZeros: number, factor: number): number {
  return (multiply(factor, crc) ^ crcOfZeros) >>> 0;
}

/** x to the power of 8 times the length: what {@link appendZeros} multiplies with. */
export function factorOfLength(lengthBytes: number): number {
  let factor = 0x80000000;
  // x^8, then its squares: one for each bit of the length.
  let power = 0x00800000;
  for (let rest = lengthBytes; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) factor = multiply(power, factor);
    power = multiply(power, power);
  }
  return factor;
}

/** The product of two polynomials, whose highest bit stands for x^0. */
function multiply(one: number, other: number): number {
  let product = 0;
  let shifted = other;
  for (let bit = 31; bit >= 0; bit -= 1) {
    if ((one >>> bit) & 1) product ^= shifted;
    shifted = shifted & 1 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return product >>> 0;
}
