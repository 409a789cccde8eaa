import type { FastifyRequest } from "fastify";
import type { StartOptions } from "../client/start-options.ts";
import { ImportError } from "../domain/import-failure.ts";
import { storableText } from "../domain/storable-text.ts";
import type { ApiContext } from "./context.ts";
import { credentialsIn } from "./identity.ts";
import { IMPORT_METHODS_HERE, type MethodHere, type PlacedImage } from "./import-body.ts";

/**
 * The ways of import that can work here. `glance-download` needs to know the other services, and a
 * key: the token of the caller is sealed until the worker downloads.
 */
export function importMethods({ config, settings, identity }: ApiContext): readonly MethodHere[] {
  const isKnowing =
    identity.imageEndpoint !== undefined || Object.keys(settings.glanceRegions).length > 0;
  if (isKnowing && config.keyFile !== undefined) return IMPORT_METHODS_HERE;
  return IMPORT_METHODS_HERE.filter((each) => each !== "glance-download");
}

/** The hint for a site where `glance-download` is not one of {@link importMethods}. */
export const GLANCE_DOWNLOAD_HINT =
  "Set `secrets.key_file`, and `api.glance_regions` unless `api.identity` is keystone.";

/**
 * The options of an import that downloads an image of another service. As with Glance, a request
 * with a wrong region or a missing image is accepted, and its import fails.
 *
 * @throws HttpFailure 503; ImportError `SourceForbidden`, `SourceUnavailable`
 */
export async function remoteDownload(
  context: ApiContext,
  { headers }: FastifyRequest,
  remote: PlacedImage,
): Promise<Pick<StartOptions, "method" | "uri" | "sourceFailure">> {
  const { region, serviceInterface, imageId } = remote;
  const { glanceRegions } = context.settings;
  const endpoint = Object.hasOwn(glanceRegions, region)
    ? glanceRegions[region]
    : await context.identity.imageEndpoint?.(remote, headers);
  if (endpoint === undefined) {
    const sourceFailure = `Cannot find the image service of region "${region}" with the interface "${serviceInterface}" in the catalogue`;
    return { method: "web-download", sourceFailure };
  }
  try {
    const token = credentialsIn(headers)?.token;
    const found = await context.client.imports.findRemote({ endpoint, imageId, token });
    return { method: "web-download", ...found };
  } catch (error) {
    if (!(error instanceof ImportError) || error.code !== "SourceRefused") throw error;
    return { method: "web-download", sourceFailure: storableText(error.message) };
  }
}
