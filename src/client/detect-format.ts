import type { DiskFormat } from "../domain/disk-format.ts";
import { DEFAULT_FORMAT_POLICY } from "../domain/format-policy.ts";
import { assertSafe } from "../formats/assert-safe.ts";
import { diskFormatOf, type DeclaredFormats } from "../formats/declared-format.ts";
import { inspectFile } from "./inspect-file.ts";
import { openUpload } from "./open-upload.ts";

/**
 * The disk format to import a file as: the declared one, else by its marks, `raw` when it has none.
 * Refuses a file that nobody may import. Whether it has the declared format is for the import to
 * say, which leaves an image that can be declared anew.
 *
 * @param policy - which images are let in. Default: what holds where nothing is configured
 * @param known - the declared formats, and the compressed formats that the import decompresses
 * @returns undefined for a compressed file whose format nothing declares: the import finds it once
 *   it has decompressed it
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
  // Staging takes regular files only, and this comes before an image is made.
  await (await openUpload(path)).close();
  const verdict = await inspectFile(path, lenient, declared);
  const isCompressed = decompressed.some((format) => format === verdict.format);
  if (isCompressed && diskFormat === undefined) return undefined;
  assertSafe(verdict, declared);
  return diskFormat ?? diskFormatOf(verdict.format) ?? "raw";
}
