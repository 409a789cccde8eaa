import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { continues } from "../client/direct-upload.ts";
import type { ResumableView } from "../client/resumable-upload.ts";
import type { NextBytes } from "../client/upload-writer.ts";
import { ImportError } from "../domain/import-failure.ts";
import {
  expectedOwner,
  noContent,
  requireImage,
  rootUrl,
  type ApiContext,
  type Routes,
} from "./context.ts";
import { badRequest, conflict, HttpFailure, notFound } from "./http-failure.ts";
import { headerOf } from "./identity.ts";
import { described, openRoute } from "./open-api.ts";
import { receive } from "./receive.ts";
import { hasBody, mediaTypeOf } from "./request-body.ts";
import { CHECKSUMS, readMetadata, TUS_TYPE, TUS_VERSION } from "./tus.ts";

interface UploadRoute {
  Params: { upload: string };
}

type SeenUpload = Awaited<ReturnType<typeof requireUpload>>;

const ADDRESS = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9a-f]{8})$/;

/** Uploads that can be continued: tus 1.0. All state is in the catalogue and the staging area. */
export const uploadRoutes: Routes = (app, context) => {
  const { files } = context.client;
  const tus = {
    onRequest: (request: FastifyRequest, _reply: FastifyReply, done: (error?: Error) => void) => {
      done(wrongVersion(request));
    },
  };

  for (const path of ["/uploads", "/uploads/:upload"]) {
    app.options(path, openRoute("Show what uploads can do (tus)"), (_request, reply) =>
      noContent(reply),
    );
  }

  app.post(
    "/uploads",
    {
      ...described("Begin an upload that can be continued (tus)", {
        takesBytes: TUS_TYPE,
        answers: { 201: undefined },
      }),
      ...tus,
    },
    async (request, reply) => {
      const view = await begin(context, request);
      reply.header("location", `${rootUrl(context, request)}${pathOf(view)}`);
      const isWithBytes = mediaTypeOf(request) === TUS_TYPE && hasBody(request);
      // Read again: `begin` has recorded the import that follows.
      const seen = await requireUpload(context, request, keyOf(view));
      const now = isWithBytes ? await append(context, seen, 0, request, reply) : view;
      return showOffset(reply, now).code(201).send();
    },
  );

  app.head<UploadRoute>(
    "/uploads/:upload",
    { ...described("Show how far an upload came", { answers: { 200: undefined } }), ...tus },
    async (request, reply) => {
      const seen = await requireUpload(context, request, request.params.upload);
      const view = await findOrImported(context, seen);
      if (view.metadata !== "") reply.header("upload-metadata", view.metadata);
      return showOffset(reply, view).header("upload-length", view.size).send();
    },
  );

  const patch = async (
    request: FastifyRequest<UploadRoute>,
    reply: FastifyReply,
  ): Promise<FastifyReply> => {
    if (mediaTypeOf(request) !== TUS_TYPE) {
      throw new HttpFailure(415, `The bytes of an upload have the content type ${TUS_TYPE}.`);
    }
    const offset = numberIn(request, "upload-offset");
    const seen = await requireUpload(context, request, request.params.upload);
    return noContent(showOffset(reply, await append(context, seen, offset, request, reply)));
  };
  const end = async (
    request: FastifyRequest<UploadRoute>,
    reply: FastifyReply,
  ): Promise<FastifyReply> => {
    const { guard, ...seen } = await requireUpload(context, request, request.params.upload);
    await files.endUpload(seen, guard);
    return noContent(reply);
  };
  const patching = described("Send the next bytes of an upload", {
    takesBytes: TUS_TYPE,
    answers: { 204: undefined },
  });
  app.patch<UploadRoute>("/uploads/:upload", { ...patching, ...tus }, patch);
  app.delete<UploadRoute>(
    "/uploads/:upload",
    { ...described("End an upload", { answers: { 204: undefined } }), ...tus },
    end,
  );
  // For clients that can send neither PATCH nor DELETE.
  app.post<UploadRoute>(
    "/uploads/:upload",
    {
      ...described("PATCH or DELETE, as X-HTTP-Method-Override says", {
        takesBytes: TUS_TYPE,
        answers: { 204: undefined },
      }),
      ...tus,
    },
    async (request, reply) => {
      const method = headerOf(request.headers, "x-http-method-override")?.toUpperCase();
      if (method === "PATCH") return patch(request, reply);
      if (method === "DELETE") return end(request, reply);
      throw badRequest("The header X-HTTP-Method-Override must be PATCH or DELETE.");
    },
  );
};

function wrongVersion({ headers, method }: FastifyRequest): HttpFailure | undefined {
  const version = headerOf(headers, "tus-resumable");
  if (version === TUS_VERSION || method === "OPTIONS") return undefined;
  return new HttpFailure(
    412,
    `The header Tus-Resumable must be ${TUS_VERSION}, and is ${version ?? "absent"}.`,
    { headers: { "tus-version": TUS_VERSION } },
  );
}

/** @throws HttpFailure 400, 403, 404, 409; ImportError */
async function begin(context: ApiContext, request: FastifyRequest): Promise<ResumableView> {
  const { client, config } = context;
  const { headers, caller } = request;
  if (headerOf(headers, "upload-defer-length") !== undefined) {
    throw badRequest("The length of an upload must be known when it begins: send Upload-Length.");
  }
  const size = numberIn(request, "upload-length");
  if (size === 0) throw badRequest("An upload has at least one byte.");
  const metadata = readMetadata(headerOf(headers, "upload-metadata") ?? "");
  const imageId = metadata.get("image_id");
  if (imageId === undefined) throw badRequest("Upload-Metadata must have an image_id.");
  const { image, guard } = await requireImage(context, request, imageId, "upload_image");
  const isImported = metadata.get("import") === "true";
  if (isImported && (image.disk_format === null || image.container_format === null)) {
    throw badRequest("Properties disk_format, container_format must be set prior to saving data.");
  }
  const stores = metadata.get("stores")?.split(",");
  const unknown = stores?.find((store) => !Object.hasOwn(config.stores, store));
  if (unknown !== undefined) {
    throw badRequest(`Store for image data ${unknown} is not available on this node`);
  }
  try {
    return await client.files.beginUpload({
      imageId: image.id,
      guard,
      generation: generationOf(request.id),
      size,
      metadata: headerOf(headers, "upload-metadata") ?? "",
      ...(isImported
        ? {
            importAfter: {
              request_id: request.id,
              ...(stores === undefined ? {} : { stores }),
              ...(caller.user === null ? {} : { user_id: caller.user }),
              roles: [...caller.roles],
              expected_owner: expectedOwner(caller, image),
            },
          }
        : {}),
    });
  } catch (error) {
    if (!(error instanceof ImportError) || error.code !== "StagingBusy") throw error;
    // The sender of that upload may have died before it knew the address.
    const generation = await client.files.findIncomplete(image.id);
    if (generation === null) throw error;
    const address = pathOf({ image_id: image.id, generation });
    throw conflict(error.message, {
      hint: error.hint,
      cause: error,
      headers: { location: `${rootUrl(context, request)}${address}` },
    });
  }
}

/** The generation of an upload, from the id of the request that began it: a task keeps this id. */
function generationOf(requestId: string): string {
  return requestId.slice("req-".length).slice(0, 8);
}

function keyOf({ image_id, generation }: Pick<ResumableView, "image_id" | "generation">): string {
  return `${image_id}.${generation}`;
}

function pathOf(view: Pick<ResumableView, "image_id" | "generation">): string {
  return `/uploads/${keyOf(view)}`;
}

/** Reads the image of an upload. The upload is absent for a caller who may not upload the image. */
async function requireUpload(context: ApiContext, request: FastifyRequest, address: string) {
  const [, imageId = "", generation = ""] = ADDRESS.exec(address) ?? [];
  const absent = notFound(`No upload found with ID ${address}`);
  if (imageId === "") throw absent;
  try {
    const { image, guard } = await requireImage(context, request, imageId, "upload_image");
    return { image, guard, imageId, generation };
  } catch (error) {
    if (error instanceof HttpFailure && error.status === 403) throw absent;
    throw error;
  }
}

/** Finds an upload, also one that was imported: its sender may have missed the last answer. */
async function findOrImported(
  { client }: ApiContext,
  { imageId, generation }: SeenUpload,
): Promise<ResumableView> {
  try {
    return await client.files.findUpload({ imageId, generation });
  } catch (error) {
    if (!(error instanceof ImportError && error.code === "ImportLost")) throw error;
    // Read after the upload: the import may just have ended.
    const { status, size } = await client.images.show(imageId);
    if (status !== "active" || size === null) throw error;
    const [task] = await client.admin.listTasks({ imageId, limit: 1 });
    if (task?.request_id == null || generationOf(task.request_id) !== generation) throw error;
    return { image_id: imageId, generation, size, offset: size, metadata: "", expires_at: null };
  }
}

/** Writes the bytes of a request. After the last one, begins the import that was asked for. */
async function append(
  context: ApiContext,
  { image, generation }: Pick<SeenUpload, "image" | "generation">,
  offset: number,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<ResumableView> {
  const checksum = checksumIn(request);
  const size =
    request.headers["content-length"] === undefined
      ? undefined
      : numberIn(request, "content-length");
  try {
    const view = await receive(context, request, reply, (bytes, signal) =>
      context.client.files.continueUpload(
        { imageId: image.id, generation },
        { offset, bytes, size, signal, ...(checksum === undefined ? {} : { checksum }) },
      ),
    );
    const isComplete = view.offset === view.size;
    if (isComplete && image.is_direct_upload) await beginImport(context, image, request);
    return view;
  } catch (error) {
    throw inTermsOfTus(error);
  }
}

function inTermsOfTus(error: unknown): unknown {
  if (!(error instanceof ImportError)) return error;
  const { code, message, hint } = error;
  if (code === "StagingBusy") {
    return new HttpFailure(423, message, { hint, cause: error, headers: { "retry-after": "1" } });
  }
  if (code === "ChecksumMismatch") return new HttpFailure(460, message, { hint, cause: error });
  return error;
}

/** Begins the import of a complete upload. The answer does not wait for its end. */
async function beginImport(
  { client, stopping }: ApiContext,
  { id, name }: SeenUpload["image"],
  request: FastifyRequest,
): Promise<void> {
  let accept = (): void => undefined;
  const accepted = new Promise<void>((resolve) => {
    accept = resolve;
  });
  const options = { imageName: name ?? undefined, signal: stopping, onAccepted: accept };
  const ended = client.files.finishUpload(id, options);
  ended.catch((error: unknown) => {
    request.log.info({ err: error, image_id: id }, "The import of an upload failed");
  });
  try {
    await Promise.race([accepted, ended]);
  } catch (error) {
    if (!continues(error)) throw error;
  }
}

function showOffset(reply: FastifyReply, { offset, expires_at }: ResumableView): FastifyReply {
  reply.header("upload-offset", offset);
  if (expires_at !== null) reply.header("upload-expires", new Date(expires_at).toUTCString());
  return reply;
}

/** @throws HttpFailure 400 */
function numberIn({ headers }: FastifyRequest, name: string): number {
  const text = headerOf(headers, name);
  const number = Number(text);
  if (text !== undefined && /^\d+$/.test(text) && Number.isSafeInteger(number)) return number;
  throw badRequest(`The header ${name} must be a number of bytes, and is ${text ?? "absent"}.`);
}

/** @throws HttpFailure 400 */
function checksumIn({ headers }: FastifyRequest): NextBytes["checksum"] {
  const text = headerOf(headers, "upload-checksum");
  if (text === undefined) return undefined;
  const [name, base64 = ""] = text.split(" ");
  const algo = CHECKSUMS.find((each) => each === name);
  const digest = Buffer.from(base64, "base64");
  const known = CHECKSUMS.join(", ");
  if (algo === undefined) throw badRequest(`Upload-Checksum must begin with one of ${known}.`);
  if (createHash(algo).digest().length !== digest.length) {
    throw badRequest(`Upload-Checksum has no ${algo} in base64.`);
  }
  return { algo, digest };
}
