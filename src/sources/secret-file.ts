import { open } from "node:fs/promises";
import { ImportError } from "../domain/import-failure.ts";

/**
 * Reads a file that holds a secret.
 *
 * @param what - what people call it: "key file"
 * @throws ImportError `BadConfiguration` also when others may read the file or write to it
 */
export async function readSecretFile(what: string, path: string): Promise<string> {
  const handle = await open(path).catch((cause: unknown) => {
    throw unusableSecret(what, path, "it cannot be read", { cause });
  });
  try {
    const { mode } = await handle.stat();
    // A group may read it: that is how orchestrators hand out secrets.
    if ((mode & 0o027) !== 0) {
      throw unusableSecret(what, path, "others may read it or write to it", {
        hint: `\`chmod 600 ${path}\``,
      });
    }
    return await handle.readFile("utf8");
  } finally {
    await handle.close();
  }
}

/**
 * The failure of a file of secrets that can't be used; nothing of what it holds is in the message.
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
