import type { FastifyReply, FastifyRequest } from "fastify";
import { isAdmin } from "./caller.ts";
import {
  noContent,
  queryOf,
  requireImage,
  requireUse,
  rootUrl,
  type ApiContext,
  type Routes,
} from "./context.ts";
import { importMethods } from "./glance-download.ts";
import { badRequest, forbidden, HttpFailure } from "./http-failure.ts";
import { readNewImage } from "./image-attributes.ts";
import { allowedChanges } from "./image-changes.ts";
import { PATCH_TYPES, readOperations, type PatchFlavour } from "./json-patch.ts";
import { pagePath, readListQuery } from "./list-query.ts";
import { described } from "./open-api.ts";
import { mediaTypeOf } from "./request-body.ts";
import { wireImage } from "./wire-image.ts";

/** Images: create, list, show, change, delete. */
export const imageRoutes: Routes = (app, context) => {
  const { client } = context;

  app.post(
    "/v2/images",
    described("Create an image", { body: "image", answers: { 201: "image" } }),
    async (request, reply) => {
      requireUse(request, "add_image");
      if (request.body === undefined) throw badRequest("Body expected in request.");
      const { caller } = request;
      const given = readNewImage(request.body);
      const owner = given.owner ?? caller.project ?? undefined;
      if (owner !== (caller.project ?? undefined) && !isAdmin(caller)) {
        throw forbidden(`You are not permitted to create images owned by '${owner ?? ""}'`);
      }
      if (given.visibility === "public" && !isAdmin(caller)) {
        throw forbidden("You are not authorized to complete publicize_image action.");
      }
      const image = await client.images.create({ ...given, owner });
      addImportHeaders(reply, context);
      return reply
        .code(201)
        .header("location", `${rootUrl(context, request)}/v2/images/${image.id}`)
        .send(wireImage(image));
    },
  );

  app.get(
    "/v2/images",
    described("List images", { answers: { 200: "images" } }),
    async (request) => {
      requireUse(request, "get_images");
      const query = queryOf(request);
      const { filter, limit } = readListQuery(query, request.caller);
      const images = limit === 0 ? [] : await client.images.list(filter);
      const last = images.at(-1);
      const isFull = last !== undefined && images.length === limit;
      return {
        images: images.map(wireImage),
        first: pagePath("/v2/images", query, undefined),
        ...(isFull ? { next: pagePath("/v2/images", query, last.id) } : {}),
        schema: "/v2/schemas/images",
      };
    },
  );

  app.get<{ Params: { id: string } }>(
    "/v2/images/:id",
    described("Show an image", { refusesBody: true, answers: { 200: "image" } }),
    async (request) =>
      wireImage((await requireImage(context, request, request.params.id, "get_image")).image),
  );

  app.patch<{ Params: { id: string } }>(
    "/v2/images/:id",
    {
      ...described("Change an image with a JSON patch", {
        body: "patch",
        answers: { 200: "image" },
      }),
      onRequest: (request, _reply, done) => {
        done(flavourOf(request) === undefined ? unknownFlavour() : undefined);
      },
    },
    async (request) => {
      const flavour = flavourOf(request) ?? "v2.1";
      if (request.body === undefined) throw badRequest("Body expected in request.");
      const operations = readOperations(request.body, flavour);
      const { image, judged, guard } = await requireImage(
        context,
        request,
        request.params.id,
        "modify_image",
      );
      if (operations.length === 0) return wireImage(image);
      const changed = await client.images.change(
        image.id,
        (current) =>
          allowedChanges(current, operations, flavour, { caller: request.caller, judged }),
        guard,
      );
      return wireImage(changed);
    },
  );

  app.delete<{ Params: { id: string } }>(
    "/v2/images/:id",
    described("Delete an image", { refusesBody: true, answers: { 204: undefined } }),
    async (request, reply) => {
      const { image, guard } = await requireImage(
        context,
        request,
        request.params.id,
        "delete_image",
      );
      await client.images.delete(image.id, 0, guard);
      return noContent(reply);
    },
  );
};

/** Names the ways of import and the stores: some clients refuse to import without these headers. */
export function addImportHeaders(reply: FastifyReply, context: ApiContext): void {
  const stores = Object.entries(context.config.stores).filter(([, { disabled }]) => !disabled);
  reply.header("openstack-image-import-methods", importMethods(context).join(","));
  reply.header("openstack-image-store-ids", stores.map(([name]) => name).join(","));
}

function flavourOf(request: FastifyRequest): PatchFlavour | undefined {
  const name = mediaTypeOf(request) ?? "";
  return Object.hasOwn(PATCH_TYPES, name)
    ? PATCH_TYPES[name as keyof typeof PATCH_TYPES]
    : undefined;
}

function unknownFlavour(): HttpFailure {
  const types = Object.keys(PATCH_TYPES).join(", ");
  return new HttpFailure(415, `A patch needs one of these content types: ${types}.`, {
    headers: { "accept-patch": types },
  });
}
