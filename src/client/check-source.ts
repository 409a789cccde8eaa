import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { ImportError } from "../domain/import-failure.ts";
import type { WebSettings } from "../domain/web-settings.ts";
import { EgressPolicy } from "../sources/egress-policy.ts";
import { parseWebUrl } from "../sources/web-url.ts";

/**
 * Checks the URL of a download before its import begins, as far as this host can: the worker that
 * downloads checks every connection. Behind a proxy names are not looked up, since the proxy does.
 *
 * @throws ImportError `BadRequest`; `SourceForbidden` for a URL that the rules of this host forbid,
 *   or whose host does not exist
 * @internal
 */
export async function checkSource(uri: string, web: WebSettings): Promise<void> {
  const url = parseWebUrl(uri);
  const policy = new EgressPolicy(web);
  policy.requireUrl(url);
  const host = url.hostname.replace(/^\[|\]$/g, "");
  if (isIP(host) !== 0 || web.proxyUrl !== undefined) return;
  for (const { address } of await addressesOf(host)) policy.requireAddress(host, address);
}

async function addressesOf(host: string): Promise<{ readonly address: string }[]> {
  try {
    return await lookup(host, { all: true });
  } catch (error) {
    const isUnknown = error instanceof Error && "code" in error && error.code === "ENOTFOUND";
    // The caller cannot mend an unreachable resolver. The worker looks the name up again.
    if (!isUnknown) return [];
    throw new ImportError("SourceForbidden", `There is no host "${host}"`, {
      cause: error,
      hint: "Correct the host's name.",
    });
  }
}
