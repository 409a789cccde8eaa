import { systemFailure } from "../bytes/system-failure.ts";
import { DEFAULT_FORMAT_POLICY, type FormatPolicy } from "../domain/format-policy.ts";
import type { DeclaredFormats } from "../formats/declared-format.ts";
import { judgeImage, type Verdict } from "../formats/judge-image.ts";
import { openInspected } from "./open-inspected.ts";

export { assertSafe } from "../formats/assert-safe.ts";
export type { Verdict } from "../formats/judge-image.ts";

/**
 * The verdict on a file or a block device of this host. It follows symbolic links.
 *
 * @param policy - the images that are accepted. Default: the policy of an empty configuration
 * @param declared - the formats to import it as. Default: those that are found
 * @throws ImportError `FileNotFound`, `UnusableFile`
 */
export async function inspectFile(
  path: string,
  policy: FormatPolicy = DEFAULT_FORMAT_POLICY,
  declared?: DeclaredFormats,
): Promise<Verdict> {
  await using inspected = await openInspected(path);
  try {
    return await judgeImage(inspected.handle, inspected.sizeBytes, policy, declared);
  } catch (error) {
    throw systemFailure(error, `"${path}"`, "UnusableFile");
  }
}
