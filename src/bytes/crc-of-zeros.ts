// The polynomial of crc32 (zlib, IEEE 802.3), its bits reversed.
const POLYNOMIAL = 0xedb88320;

/**
 * The crc32 of some bytes and a run of zeros after them, without looking at a single zero: each
 * byte of it multiplies what the register holds, which is the complement of the crc, by x^8, modulo
 * the polynomial.
 *
 * @param crc - of the bytes before; 0 for none
 * @param lengthBytes - how many zeros
 */
export function appendZeros(crc: number, lengthBytes: number): number {
  let register = ~crc;
  // x^8, then its squares: one for each bit of the length.
  let power = 0x00800000;
  for (let rest = lengthBytes; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) register = multiply(power, register);
    power = multiply(power, power);
  }
  return ~register >>> 0;
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
