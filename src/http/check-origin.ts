import { ImportError } from "../domain/import-failure.ts";
import type { ApiContext } from "./context.ts";
import { badRequest } from "./http-failure.ts";

/**
 * Refuses the URL of a download that the rules of this host forbid, before an import begins.
 *
 * @throws HttpFailure 400 in the words of Glance
 */
export async function checkOrigin({ client }: ApiContext, uri: string): Promise<void> {
  try {
    await client.imports.checkSource(uri);
  } catch (error) {
    if (!(error instanceof ImportError)) throw error;
    const { code, message, hint } = error;
    if (code !== "SourceForbidden") throw error;
    throw badRequest(`URI for web-download does not pass filtering: ${message}`, {
      cause: error,
      hint,
    });
  }
}
