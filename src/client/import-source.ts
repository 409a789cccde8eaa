import { basename, extname } from "node:path";
import type { Config } from "../config/config.ts";
import { COMPRESSIONS, nameWhenDecompressed } from "../domain/compression.ts";
import type { ContainerFormat, DiskFormat } from "../domain/disk-format.ts";
import { imageNameOf } from "../domain/image-fields.ts";
import { parseWebUrl } from "../sources/web-url.ts";
import { detectFormat } from "./detect-format.ts";
import { openUpload } from "./open-upload.ts";

/** The source of an import, as far as it is known before an image is created. */
export interface ImportSource {
  /** The last segment of its path. */
  readonly name: string;
  /** Undefined if only the import can find it out. */
  readonly diskFormat: DiskFormat | undefined;
}

/**
 * Describes a URL by the last segment of its path. The query, which may be a secret, is left out.
 *
 * @throws ImportError `BadRequest` for a URL that cannot be imported
 */
export function describeUrl(url: string): ImportSource {
  const name = nameOf(parseWebUrl(url));
  return { name, diskFormat: formatOfName(name) };
}

function nameOf({ pathname }: URL): string {
  const name = basename(pathname);
  try {
    return imageNameOf(decodeURIComponent(name)) || "image";
  } catch {
    return imageNameOf(name);
  }
}

/**
 * Describes a file of this host: its format is the declared one, else that of its bytes.
 *
 * @param config - undefined: a service with another configuration imports the file, and judges it
 * @throws ImportError `FileNotFound`, `UnusableFile`, `FormatNotAllowed`, `UnsafeImage`
 */
export async function describeFile(
  path: string,
  config: Config | undefined,
  declared: {
    readonly diskFormat?: DiskFormat | undefined;
    readonly containerFormat?: ContainerFormat | undefined;
    /** The transforms that are chosen. Default: those of the configuration. */
    readonly transforms?: readonly string[] | undefined;
  },
): Promise<ImportSource> {
  const name = basename(path);
  if (config === undefined) {
    await (await openUpload(path)).close();
    return { name, diskFormat: declared.diskFormat };
  }
  const { formatPolicy, transforms } = config;
  const isDecompressed = (declared.transforms ?? transforms.order).includes("decompress");
  // The marks of a compressed file are not those of the disk in it, but its name may say more.
  const isNamed = isDecompressed && nameWhenDecompressed(name) !== undefined;
  const diskFormat = declared.diskFormat ?? (isNamed ? formatOfName(name) : undefined);
  const { containerFormat } = declared;
  const detected = await detectFormat(path, formatPolicy, {
    ...(diskFormat === undefined ? {} : { diskFormat }),
    ...(containerFormat === undefined ? {} : { containerFormat }),
    ...(isDecompressed ? { decompressed: COMPRESSIONS } : {}),
  });
  return { name, diskFormat: detected };
}

// An ending that several formats have, such as `.img`, is left out.
const FORMAT_OF_ENDING: Readonly<Record<string, DiskFormat>> = {
  raw: "raw",
  qcow2: "qcow2",
  vmdk: "vmdk",
  vdi: "vdi",
  vhd: "vhd",
  vpc: "vhd",
  vhdx: "vhdx",
  iso: "iso",
};

function formatOfName(name: string): DiskFormat | undefined {
  const ending = extname(nameWhenDecompressed(name) ?? name).slice(1);
  return FORMAT_OF_ENDING[ending.toLowerCase()];
}
