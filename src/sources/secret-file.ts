import { open } from "node:fs/promises";
import { ImportError } from "../domain/import-failure.ts";

/**
 * Reads a file that contains a secret.
 *
 * @param what - its name for users: "key file"
 * @throws ImportError `BadConfiguration`, also if other users may read the file or write to it
 */
export async function readSecretFile(what: string, path: string): Promise<string> {
  const handle = await open(path).catch((cause: unknown) => {
    throw unusableSecret(what, path, "it cannot be read", { cause });
  });
  try {
    const { mode } = await handle.stat();
    // Its group may read it: orchestrators provide secrets in that way.
    if ((mode & 0o027) !== 0) {
      throw unusableSecret(what, path, "other users may read it or write to it", {
        hint: `Run \`chmod 600 ${path}\`.`,
      });
    }
    return await handle.readFile("utf8");
  } finally {
    await handle.close();
  }
}

/**
 * The failure of a file of secrets that cannot be used. The message does not contain its content.
 */
export function unusableSecret(
  what: string,
  path: string,
  reason: string,
  options: { readonly cause?: unknown; readonly hint?: string } = {},
): ImportError {
  return new ImportError(
    "BadConfiguration",
    `Cannot use the ${what} "${path}": ${reason}`,
    options,
  );
}
