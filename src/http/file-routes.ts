import type { OutgoingHttpHeaders } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import { ImportError } from "../domain/import-failure.ts";
import { readRange } from "./byte-range.ts";
import { isAdmin } from "./caller.ts";
import {
  noContent,
  expectedOwner,
  requireImage,
  serverEnds,
  type ApiContext,
  type Routes,
  type SeenImage,
} from "./context.ts";
import { badRequest, conflict, forbidden, HttpFailure } from "./http-failure.ts";
import { headerOf } from "./identity.ts";
import { described } from "./open-api.ts";
import { receive } from "./receive.ts";
import { mediaTypeOf } from "./request-body.ts";
import { sendBytes } from "./send-bytes.ts";

interface IdRoute {
  Params: { id: string };
}

/** The bytes of an image: upload, stage, download. */
export const fileRoutes: Routes = (app, context) => {
  const { client, config } = context;

  app.put<IdRoute>(
    "/v2/images/:id/file",
    {
      ...described("Upload the data of an image, and import it", {
        takesBytes: true,
        answers: { 204: undefined },
      }),
      onRequest: requireOctets,
    },
    async (request, reply) => {
      const sizeBytes = sizeIn(request);
      const { id } = request.params;
      const { image, guard } = await requireImage(context, request, id, "upload_image");
      const store = headerOf(request.headers, "x-image-meta-store");
      if (store !== undefined && !Object.hasOwn(config.stores, store)) {
        throw badRequest(`Store for image data ${store} is not available on this node`);
      }
      requireReady(image);
      const upload = await receive(context, request, reply, (bytes, signal) =>
        client.files.stage(image.id, bytes, {
          signal,
          guard,
          ...(sizeBytes === undefined ? {} : { size: sizeBytes }),
          importAfter: {
            request_id: request.id,
            ...(store === undefined ? {} : { stores: [store] }),
            ...(request.caller.user === null ? {} : { user_id: request.caller.user }),
            roles: [...request.caller.roles],
            expected_owner: expectedOwner(request.caller, image),
          },
        }),
      );
      await importUpload(context, upload.image_id, image.name ?? undefined);
      return noContent(reply);
    },
  );

  app.put<IdRoute>(
    "/v2/images/:id/stage",
    {
      ...described("Stage the data of an image", { takesBytes: true, answers: { 204: undefined } }),
      onRequest: requireOctets,
    },
    async (request, reply) => {
      const sizeBytes = sizeIn(request);
      const { id } = request.params;
      const { image, guard } = await requireImage(context, request, id, "stage_image");
      if (image.status === "uploading") throw conflict(`The image ${image.id} has data on staging`);
      if (image.status !== "queued")
        throw conflict(`Image ${image.id} is ${image.status}, and only a queued image is staged`);
      await receive(context, request, reply, (bytes, signal) =>
        client.files.stage(image.id, bytes, {
          signal,
          guard,
          ...(sizeBytes === undefined ? {} : { size: sizeBytes }),
        }),
      );
      return noContent(reply);
    },
  );

  app.get<IdRoute & { Querystring: { prefer?: string | string[] } }>(
    "/v2/images/:id/file",
    described("Download the data of an image", { refusesBody: true, answers: { 200: undefined } }),
    async (request, reply) => {
      const { image } = await requireImage(context, request, request.params.id, "download_image");
      if (image.status === "deactivated" && !isAdmin(request.caller)) {
        throw forbidden(
          "The requested image has been deactivated. Image data download is forbidden.",
        );
      }
      if (image.size === null || image.stores.length === 0) return noContent(reply);
      await send(context, image, request, reply);
      return reply;
    },
  );
};

/** @throws HttpFailure 409, 400 */
function requireReady(image: SeenImage["image"]): void {
  if (image.status !== "queued") {
    throw conflict(`Image status transition from ${image.status} to saving is not allowed`);
  }
  if (image.disk_format === null || image.container_format === null) {
    throw badRequest("Properties disk_format, container_format must be set prior to saving data.");
  }
}

/** Imports an upload as its record (`images.direct_upload`) asks for, and waits for the end. */
async function importUpload(
  { client, stopping }: ApiContext,
  imageId: string,
  imageName: string | undefined,
): Promise<void> {
  try {
    await client.files.finishUpload(imageId, { imageName, signal: stopping });
  } catch (error) {
    if (!(error instanceof ImportError)) throw error;
    if (error.code === "ImageNotFound" || error.code === "ImportLost") {
      throw new HttpFailure(
        410,
        `Image ${imageId} could not be found after upload. The image may have been deleted during the upload.`,
        { cause: error },
      );
    }
    if (error.code === "Interrupted") {
      throw new HttpFailure(503, error.message, { cause: error, hint: error.hint });
    }
    throw error;
  }
}

async function send(
  { client, config, settings, stopping }: ApiContext,
  { id, checksum, size }: SeenImage["image"],
  request: FastifyRequest<{ Querystring: { prefer?: string | string[] } }>,
  reply: FastifyReply,
): Promise<void> {
  const sizeBytes = size ?? 0;
  // Old clients ask with `Content-Range`, a header of answers.
  const range = readRange(request.headers.range ?? request.headers["content-range"], sizeBytes);
  const prefer = [request.query.prefer ?? []].flat().flatMap((names) => names.split(","));
  const unknown = prefer.find((name) => !Object.hasOwn(config.stores, name));
  if (unknown !== undefined) throw badRequest(`Store ${unknown} is not available on this node`);
  const { start, end } = range ?? { start: 0, end: sizeBytes - 1 };
  // The caller may have left while the image was looked up.
  if (reply.raw.destroyed) {
    reply.hijack();
    return;
  }
  // Or the server has stopped its running answers by now.
  if (stopping.aborted) throw serverEnds("The server is stopping.");
  const gone = new AbortController();
  const stop = (): void => {
    gone.abort();
    reply.raw.destroy();
  };
  stopping.addEventListener("abort", stop, { once: true });
  // The event also follows the answer to a failure below.
  reply.raw.once("close", () => {
    stopping.removeEventListener("abort", stop);
    gone.abort();
  });
  // A copy that may have changed is read to its end before its first byte is sent.
  const image = await client.files.open(id, { prefer, signal: gone.signal });
  request.raw.socket.setTimeout(settings.idleTimeoutMs);
  reply.hijack();
  reply.raw.writeHead(range === undefined ? 200 : 206, {
    ...(reply.getHeaders() as OutgoingHttpHeaders),
    "content-type": "application/octet-stream",
    "content-length": end - start + 1,
    "accept-ranges": "bytes",
    ...(checksum === null || range !== undefined ? {} : { "content-md5": checksum }),
    ...(range === undefined
      ? {}
      : { "content-range": `bytes ${String(start)}-${String(end)}/${String(sizeBytes)}` }),
  });
  try {
    await sendBytes(image, { start, end }, reply.raw);
  } catch (error) {
    request.log.warn({ err: error, request_id: request.id }, "A download broke off");
  } finally {
    await image[Symbol.asyncDispose]();
  }
}

/**
 * The size that a client announces; undefined: none.
 *
 * @throws HttpFailure 400
 */
function sizeIn({ headers }: FastifyRequest): number | undefined {
  const text = headerOf(headers, "x-openstack-image-size") ?? headers["content-length"];
  if (text === undefined) return undefined;
  const size = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(size)) return size;
  throw badRequest("Invalid or missing image size in request headers.");
}

function requireOctets(
  request: FastifyRequest,
  _reply: unknown,
  done: (error?: Error) => void,
): void {
  const type = mediaTypeOf(request);
  done(
    type === "application/octet-stream"
      ? undefined
      : new HttpFailure(
          415,
          `Image data has the content type application/octet-stream, not ${type ?? "none"}.`,
        ),
  );
}
