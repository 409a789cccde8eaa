import type { DiskFormat } from "../domain/disk-format.ts";
import { DEFAULT_FORMAT_POLICY } from "../domain/format-policy.ts";
import { assertSafe } from "../formats/assert-safe.ts";
import { diskFormatOf, type DeclaredFormats } from "../formats/declared-format.ts";
import { inspectFile } from "./inspect-file.ts";

/**
 * The disk format to import a file as: the declared one, else by its marks, `raw` when it has none. Refuses a file that
 * nobody may import. Whether it has the declared format is for the import to say, which leaves an image that can be
 * declared anew.
 *
 * @param policy - which images are let in. Default: what holds where nothing is configured
 * @throws ImportError `FileNotFound`, `UnusableFile`, `FormatNotAllowed`, `UnsafeImage`
 */
export async function detectFormat(
  path: string,
  policy = DEFAULT_FORMAT_POLICY,
  { diskFormat, containerFormat = "bare" }: Partial<DeclaredFormats> = {},
): Promise<DiskFormat> {
  const declared = diskFormat === undefined ? undefined : { diskFormat, containerFormat };
  const lenient = { ...policy, requireImageFormatMatch: false };
  const verdict = await inspectFile(path, lenient, declared);
  assertSafe(verdict, declared);
  return diskFormat ?? diskFormatOf(verdict.format) ?? "raw";
}
