// The polynomial of crc32 (zlib, IEEE 802.3), its bits reversed.
const POLYNOMIAL = 0xedb88320;

/**
 * The crc32 of some bytes and a run of zeros after them, computed from the length of the run: each
 * zero byte multiplies the register, which is the complement of the crc, by x^8 modulo the
 * polynomial.
 *
 * @param crc - crc32 of the bytes before; 0 for none
 * @param lengthBytes - number of zero bytes
 */
export function appendZeros(crc: number, lengthBytes: number): number {
  let register = ~crc;
  // x^8 and its squares: one for each bit of the length.
  let power = 0x00800000;
  for (let rest = lengthBytes; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) register = multiply(power, register);
    power = multiply(power, power);
  }
  return ~register >>> 0;
}

/** The product of two polynomials modulo the polynomial; their highest bit stands for x^0. */
function multiply(one: number, other: number): number {
  let product = 0;
  let shifted = other;
  for (let bit = 31; bit >= 0; bit -= 1) {
    if ((one >>> bit) & 1) product ^= shifted;
    shifted = shifted & 1 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return product >>> 0;
}
