/** A binary megabyte: the unit in which bytes are copied. */
export const MIB = 1024 * 1024;
