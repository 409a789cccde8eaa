import type { FastifyReply } from "fastify";
import { isAdmin } from "./caller.ts";
import {
  noContent,
  queryOf,
  requireDoing,
  requireImage,
  requireUse,
  rootUrl,
  type ApiContext,
  type Routes,
} from "./context.ts";
import { importMethods } from "./glance-download.ts";
import { badRequest, forbidden, HttpFailure } from "./http-failure.ts";
import { readNewImage } from "./image-attributes.ts";
import { changesOf, PATCH_TYPES, readOperations, type PatchFlavour } from "./json-patch.ts";
import { pagePath, readListQuery } from "./list-query.ts";
import { described } from "./open-api.ts";
import type { Judged } from "./policy.ts";
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
        done(
          flavourOf(request.headers["content-type"]) === undefined ? unknownFlavour() : undefined,
        );
      },
    },
    async (request) => {
      const flavour = flavourOf(request.headers["content-type"]) ?? "v2.1";
      if (request.body === undefined) throw badRequest("Body expected in request.");
      const operations = readOperations(request.body, flavour);
      const { image, judged } = await requireImage(
        context,
        request,
        request.params.id,
        "modify_image",
      );
      if (operations.length === 0) return wireImage(image);
      const requireMay = (wanted: ReturnType<typeof changesOf>, owner: string | null): void => {
        const about: Judged = judged;
        if (wanted.visibility === "public" && judged.visibility !== "public") {
          requireDoing(request.caller, "publicize_image", about);
        }
        if (wanted.visibility === "community" && judged.visibility !== "community") {
          requireDoing(request.caller, "communitize_image", about);
        }
        if (wanted.owner !== undefined && wanted.owner !== owner) {
          requireDoing(request.caller, "change_owner", about);
        }
      };
      const changed = await client.images.change(image.id, (current) => {
        const now = { ...judged, owner: current.owner, visibility: current.visibility };
        requireDoing(request.caller, "modify_image", now);
        const wanted = changesOf(current, operations, flavour);
        requireMay(wanted, current.owner);
        return wanted;
      });
      return wireImage(changed);
    },
  );

  app.delete<{ Params: { id: string } }>(
    "/v2/images/:id",
    described("Delete an image", { refusesBody: true, answers: { 204: undefined } }),
    async (request, reply) => {
      const { image } = await requireImage(context, request, request.params.id, "delete_image");
      await client.images.delete(image.id, 0);
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

function flavourOf(type: string | undefined): PatchFlavour | undefined {
  const name = (type ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
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
