import { z } from "zod";
import { isContainerFormat, isDiskFormat } from "../domain/disk-format.ts";
import { parseChecksum } from "../domain/given-checksum.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { WebSettings } from "../domain/web-settings.ts";
import { openWebSource } from "../sources/open-web-source.ts";
import type { TokenedUrl } from "../sources/web-url.ts";
import type { StartOptions } from "./start-options.ts";

/** An image of another service that speaks Glance's API. */
export interface RemoteImage {
  /** The root of the service, without `/v2`. */
  readonly endpoint: string;
  readonly imageId: string;
  /** The token of the caller there. Default: none is sent. */
  readonly token?: string | undefined;
}

/** The options of an import of a remote image. */
export type FoundRemote = Pick<StartOptions, "uri" | "token" | "takesOver" | "checksum" | "size">;

const LARGEST_DOCUMENT_BYTES = 1024 * 1024;
const PATIENCE_MS = 30_000;
const LONGEST_NAME = 255;
// The properties that Glance takes over by default. Others may have a meaning in that service
// alone.
const TAKEN_PREFIXES = ["hw_", "trait:", "os_distro", "os_secure_boot", "os_type"];

const remoteDocument = z.looseObject({
  status: z.string(),
  disk_format: z.string(),
  container_format: z.string(),
  size: z.int().nonnegative().nullish(),
  checksum: z.string().nullish(),
  os_hash_algo: z.string().nullish(),
  os_hash_value: z.string().nullish(),
});

/** See `Imports.findRemote`. @internal */
export async function findRemote(remote: RemoteImage, web: WebSettings): Promise<FoundRemote> {
  const { endpoint, imageId, token } = remote;
  const image = `${endpoint.replace(/\/+$/, "").replace(/\/v2$/, "")}/v2/images/${imageId}`;
  const document = parsed(await read({ url: image, token }, web), imageId);
  const { status, size, disk_format: disk, container_format: container } = document;
  // The data of a deactivated image is refused to most callers; its download finds that out.
  if (!["active", "deactivated"].includes(status)) {
    throw unusable(imageId, `it has no data, its status is ${status}`);
  }
  if (!isDiskFormat(disk) || !isContainerFormat(container)) {
    throw unusable(imageId, `the formats ${disk} and ${container} are not known here`);
  }
  return {
    uri: `${image}/file`,
    token,
    takesOver: {
      disk_format: disk,
      container_format: container,
      properties: takenFrom(document),
    },
    checksum: checksumOf(document),
    size: size ?? undefined,
  };
}

async function read({ url, token }: TokenedUrl, settings: WebSettings): Promise<string> {
  const web = await openWebSource(settings);
  await using source = await web.open({
    url,
    token,
    maxBytes: LARGEST_DOCUMENT_BYTES,
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const chunks: Buffer[] = [];
  for (;;) {
    const buffer = Buffer.alloc(64 * 1024);
    const readBytes = await source.read(buffer);
    if (readBytes === 0) return Buffer.concat(chunks).toString("utf8");
    chunks.push(buffer.subarray(0, readBytes));
  }
}

function parsed(text: string, imageId: string): z.output<typeof remoteDocument> {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw unusable(imageId, "its service does not answer with JSON");
  }
  const result = remoteDocument.safeParse(document);
  if (result.success) return result.data;
  throw unusable(imageId, "its document is not that of an image with formats");
}

function takenFrom(document: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(document).flatMap(([name, value]) =>
      typeof value === "string" &&
      name.length <= LONGEST_NAME &&
      TAKEN_PREFIXES.some((prefix) => name.startsWith(prefix))
        ? [[name, value]]
        : [],
    ),
  );
}

/** The strongest digest that can be compared; undefined if that service states none. */
function checksumOf(document: z.output<typeof remoteDocument>): string | undefined {
  const { os_hash_algo: algo, os_hash_value: value, checksum } = document;
  const stated = [`${algo ?? ""}:${value ?? ""}`, `md5:${checksum ?? ""}`];
  return stated.find((each) => parseChecksum(each) !== undefined);
}

function unusable(imageId: string, why: string): ImportError {
  return new ImportError("SourceRefused", `Cannot download the remote image ${imageId}: ${why}`);
}
