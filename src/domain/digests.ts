/** The digests that identify the bytes of an image. */
export interface Digests {
  /** md5, hex: Glance's `checksum`. For output only: no decision depends on it. */
  readonly checksum: string;
  /** Name of the multihash, as node:crypto knows it, such as `sha512`. */
  readonly osHashAlgo: string;
  /** The multihash, hex. */
  readonly osHashValue: string;
  /** crc32 as an unsigned number: the fast check that every copy must pass. */
  readonly crc32: number;
  /** The number of digested bytes. */
  readonly sizeBytes: number;
}
