import type { DiskFormat } from "../domain/disk-format.ts";
import { DEFAULT_FORMAT_POLICY } from "../domain/format-policy.ts";
import { assertSafe } from "../formats/assert-safe.ts";
import { diskFormatOf, type DeclaredFormats } from "../formats/declared-format.ts";
import { inspectFile } from "./inspect-file.ts";
import { openUpload } from "./open-upload.ts";

/**
 * The disk format of a file for its import: the declared one, else that of its marks, else `raw`.
 * Rejects a file that cannot be imported. It does not compare the file with the declared format:
 * the import does, and leaves an image whose format can be corrected.
 *
 * @param policy - the images that are accepted. Default: the policy of an empty configuration
 * @param known - the declared formats, and the compressions that the import takes off
 * @returns undefined for a compressed file without a declared format: the import finds it after the
 *   decompression
 * @throws ImportError `FileNotFound`, `UnusableFile`, `FormatNotAllowed`, `UnsafeImage`
 */
export async function detectFormat(
  path: string,
  policy = DEFAULT_FORMAT_POLICY,
  known: Partial<DeclaredFormats> = {},
): Promise<DiskFormat | undefined> {
  const { diskFormat, containerFormat = "bare", decompressed = [] } = known;
  const declared = diskFormat === undefined ? undefined : { diskFormat, containerFormat };
  const lenient = { ...policy, requireImageFormatMatch: false };
  // Staging takes regular files only; this fails before an image is created.
  await (await openUpload(path)).close();
  const verdict = await inspectFile(path, lenient, declared);
  const isCompressed = decompressed.some((format) => format === verdict.format);
  if (isCompressed && diskFormat === undefined) return undefined;
  assertSafe(verdict, declared);
  return diskFormat ?? diskFormatOf(verdict.format) ?? "raw";
}
