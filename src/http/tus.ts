import { badRequest } from "./http-failure.ts";

// The words of tus 1.0: https://tus.io/protocols/resumable-upload

/** The version of the protocol. */
export const TUS_VERSION = "1.0.0";

/** The content type of the bytes of an upload. */
export const TUS_TYPE = "application/offset+octet-stream";

/** The algorithms of `Upload-Checksum`. */
export const CHECKSUMS = ["sha1", "sha256", "md5"] as const;

/** The headers of each answer about an upload. */
export const TUS_ANSWER = { "tus-resumable": TUS_VERSION, "cache-control": "no-store" } as const;

/** The headers that name the extensions and limits of this server. */
export function tusHeaders(largestBytes: number): Readonly<Record<string, string>> {
  return {
    "tus-resumable": TUS_VERSION,
    "tus-version": TUS_VERSION,
    "tus-extension": "creation,creation-with-upload,termination,checksum,expiration",
    "tus-checksum-algorithm": CHECKSUMS.join(","),
    ...(Number.isFinite(largestBytes) ? { "tus-max-size": String(largestBytes) } : {}),
  };
}

/**
 * Reads `Upload-Metadata`: pairs of a key and a value in base64, with commas between them.
 *
 * @throws HttpFailure 400
 */
export function readMetadata(header: string): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>();
  for (const pair of header === "" ? [] : header.split(",")) {
    const [, key, value = ""] = /^ *([^ ,]+)(?: ([A-Za-z0-9+/]*={0,2}))? *$/.exec(pair) ?? [];
    if (key === undefined) {
      throw badRequest("Upload-Metadata must be pairs of a key and a value in base64.");
    }
    if (metadata.has(key)) throw badRequest(`Upload-Metadata has ${key} twice.`);
    metadata.set(key, Buffer.from(value, "base64").toString());
  }
  return metadata;
}
