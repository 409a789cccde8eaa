import { readFile } from "node:fs/promises";
import { ImportError } from "../domain/import-failure.ts";
import type { WebSettings } from "../domain/web-settings.ts";
import type { OutboundProxy } from "./proxy-tunnel.ts";
import { readSecretFile, unusableSecret } from "./secret-file.ts";
import { WebSource } from "./web-source.ts";

/**
 * Reads the files that the settings of downloads name.
 *
 * @throws ImportError `BadConfiguration`
 */
export async function openWebSource(settings: WebSettings): Promise<WebSource> {
  return new WebSource({
    ...settings,
    authorities: await readAuthorities(settings.caFile),
    proxy: await readProxy(settings),
  });
}

async function readProxy({
  proxyUrl,
  proxyCredentialsFile: file,
  noProxy,
}: WebSettings): Promise<OutboundProxy | undefined> {
  if (proxyUrl === undefined) return undefined;
  const url = new URL(proxyUrl);
  if (file === undefined) return { url, exceptions: noProxy };
  const what = "file of `sources.web.proxy_credentials_file`";
  const credentials = (await readSecretFile(what, file)).trim();
  if (/^[^:\r\n]+:[^\r\n]+$/.test(credentials)) return { url, credentials, exceptions: noProxy };
  throw unusableSecret(what, file, "it must be one line, user:password");
}

async function readAuthorities(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  return readFile(path, "utf8").catch((cause: unknown) => {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ImportError(
      "BadConfiguration",
      `Cannot read the file "${path}" of \`sources.web.ca_file\`: ${reason}`,
      { cause, hint: "Set it to a PEM file that the worker may read." },
    );
  });
}
