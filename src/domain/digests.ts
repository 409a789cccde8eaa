/** What identifies the bytes of an image. */
export interface Digests {
  /** md5, hex: Glance's `checksum`. An output only: nothing is decided by it. */
  readonly checksum: string;
  /** Name of the multihash, as node:crypto knows it, such as `sha512`. */
  readonly osHashAlgo: string;
  /** The multihash, hex. */
  readonly osHashValue: string;
  /** crc32 as an unsigned number: the fast check that every copy must pass. */
  readonly crc32: number;
  /** How many bytes were digested. */
  readonly sizeBytes: number;
}
