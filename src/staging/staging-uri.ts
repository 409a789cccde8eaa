import { fileURLToPath } from "node:url";
import { ImportError } from "../domain/import-failure.ts";

/**
 * The path in a staging URI.
 *
 * @throws ImportError `BadTaskConfiguration` in Glance's words
 */
export function pathOfStagingUri(uri: string): string {
  const path = uri.startsWith("file:///") ? pathOfFileUri(uri) : undefined;
  if (path !== undefined) return path;
  throw new ImportError(
    "BadTaskConfiguration",
    "Value of node_staging_uri must be in format 'file://<absolute-path>'",
    { hint: `Correct "${uri}".` },
  );
}

function pathOfFileUri(uri: string): string | undefined {
  // An unencoded `?` or `#` would end the path: a file that has one in its name would be mistaken
  // for another file.
  if (uri.includes("?") || uri.includes("#")) return undefined;
  try {
    // fileURLToPath refuses an encoded slash, but accepts a zero byte.
    const path = fileURLToPath(uri);
    return path.includes("\0") ? undefined : path;
  } catch {
    return undefined;
  }
}
