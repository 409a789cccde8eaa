interface CompressionForm {
  /** The first bytes, in latin1. */
  readonly mark: RegExp;
  /** The ending of file names, without its point. */
  readonly ending: string;
}

const FORMS = {
  gzip: { mark: /^\x1f\x8b\x08/, ending: "gz" },
  // The second mark is that of a frame without data: parallel writers begin with one.
  zstd: { mark: /^(?:\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)/, ending: "zst" },
  xz: { mark: /^\xfd7zXZ\x00/, ending: "xz" },
  zip: { mark: /^PK\x03\x04/, ending: "zip" },
} as const satisfies Record<string, CompressionForm>;

/** A compression that `decompress` removes. Zip archives must have exactly one member. */
export type Compression = keyof typeof FORMS;

/** All compressions that `decompress` removes. */
export const COMPRESSIONS = Object.keys(FORMS) as readonly Compression[];

/** The number of bytes from the start that are enough to recognise a compression. */
export const COMPRESSION_MARK_BYTES = 6;

/**
 * Recognises a compression by the first {@link COMPRESSION_MARK_BYTES} of a file. The file's name
 * does not matter.
 *
 * @returns undefined if the bytes are not compressed in any of these ways
 */
export function recogniseCompression(first: Uint8Array): Compression | undefined {
  const text = String.fromCharCode(...first.subarray(0, COMPRESSION_MARK_BYTES));
  return COMPRESSIONS.find((name) => FORMS[name].mark.test(text));
}

const ENDING = new RegExp(
  `\\.(?:${COMPRESSIONS.map((name) => FORMS[name].ending).join("|")})$`,
  "i",
);

/**
 * The name of a file without the ending of its compression: `disk.qcow2` for `disk.qcow2.gz`.
 *
 * @returns undefined when the name has no such ending
 */
export function nameWhenDecompressed(name: string): string | undefined {
  return ENDING.test(name) ? name.replace(ENDING, "") : undefined;
}
