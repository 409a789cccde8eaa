import type { FastifyRequest } from "fastify";
import { UnansweredStart } from "../client/unanswered-start.ts";
import { ImportError } from "../domain/import-failure.ts";
import { checkOrigin } from "./check-origin.ts";
import { atTheEnd, expectedOwner, requireImage, type Routes, type SeenImage } from "./context.ts";
import { GLANCE_DOWNLOAD_HINT, importMethods, remoteDownload } from "./glance-download.ts";
import { badRequest, conflict } from "./http-failure.ts";
import { headerOf } from "./identity.ts";
import { readImportBody, requireStores, type ImportBody } from "./import-body.ts";
import { described } from "./open-api.ts";

/** Imports by Glance's own request. */
export const importRoutes: Routes = (app, context) => {
  const { client, config } = context;

  app.post<{ Params: { id: string } }>(
    "/v2/images/:id/import",
    described("Import an image", { body: "import", answers: { 202: undefined } }),
    async (request, reply) => {
      const wanted = readImportBody(request.body, headerOf(request.headers, "x-image-meta-store"));
      const action = wanted.name === "copy-image" ? "copy_image" : "import_image";
      const { image } = await requireImage(context, request, request.params.id, "get_image");
      requireStatus(image, wanted.name);
      await requireImage(context, request, request.params.id, action);
      requireStores(config, wanted.stores);
      await start(request, image, wanted);
      return reply.code(202).send();
    },
  );

  async function start(
    request: FastifyRequest,
    image: SeenImage["image"],
    wanted: ImportBody,
  ): Promise<void> {
    const { id: imageId, name } = image;
    const options = {
      stores: wanted.stores,
      ...(wanted.allStores ? { allStores: true } : {}),
      allStoresMustSucceed: wanted.allStoresMustSucceed,
      imageName: name ?? undefined,
      expectedOwner: expectedOwner(request.caller, image),
      signal: context.stopping,
      requestId: request.id,
      userId: request.caller.user ?? undefined,
      apiRequest: request.body as Record<string, unknown>,
    };
    try {
      switch (wanted.name) {
        case "glance-direct":
          await client.imports.start(imageId, { ...options, roles: [...request.caller.roles] });
          break;
        case "web-download":
          await checkOrigin(context, wanted.uri ?? "");
          await client.imports.start(imageId, {
            ...options,
            method: "web-download",
            uri: wanted.uri,
            roles: [...request.caller.roles],
          });
          break;
        case "copy-image":
          await client.imports.copy(imageId, options);
          break;
        case "glance-download": {
          if (wanted.remote === undefined || !importMethods(context).includes(wanted.name)) {
            throw badRequest("'glance-download' is not available on this site.", {
              hint: GLANCE_DOWNLOAD_HINT,
            });
          }
          const download = await remoteDownload(context, request, wanted.remote);
          await client.imports.start(imageId, {
            ...options,
            ...download,
            roles: [...request.caller.roles],
          });
          break;
        }
      }
    } catch (error) {
      // The import was started, and continues once a worker runs.
      if (error instanceof UnansweredStart && error.run !== undefined) return;
      throw inWordsOfGlance(atTheEnd(context, imageId, error));
    }
  }
};

/** @throws HttpFailure 409 */
function requireStatus(
  { id, status }: { readonly id: string; readonly status: string },
  method: ImportBody["name"],
): void {
  if (method === "copy-image") {
    if (status !== "active") {
      throw conflict("Only images with status active can be targeted for copying");
    }
    return;
  }
  if (status === "active") throw conflict("Image with status active cannot be target for import");
  const needed = method === "glance-direct" ? "uploading" : "queued";
  if (status !== needed) {
    throw conflict(
      `Image ${id} needs to be in '${needed}' state to use '${method}' method; it is ${status}`,
    );
  }
}

function inWordsOfGlance(error: unknown): unknown {
  if (!(error instanceof ImportError)) return error;
  if (error.code === "UnknownStore")
    return conflict(error.message, { cause: error, hint: error.hint });
  return error;
}
