import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";

/** The digests that the catalogue should have of a file's bytes, computed without our own code. */
export interface FileDigests {
  readonly size: number;
  readonly checksum: string;
  readonly os_hash_algo: "sha512";
  readonly os_hash_value: string;
}

/** Reads a file from its first byte to its last. */
export async function digestsOf(path: string): Promise<FileDigests> {
  const [md5, sha512] = [createHash("md5"), createHash("sha512")];
  let size = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    size += chunk.length;
    md5.update(chunk);
    sha512.update(chunk);
  }
  return {
    size,
    checksum: md5.digest("hex"),
    os_hash_algo: "sha512",
    os_hash_value: sha512.digest("hex"),
  };
}
