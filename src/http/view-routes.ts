import { z } from "zod";
import type { FastifyRequest } from "fastify";
import type { ImageView } from "../client/image-view.ts";
import { CONTAINER_FORMATS, DISK_FORMATS } from "../domain/disk-format.ts";
import { IMAGE_SORT_KEYS, type SeenBy } from "../domain/image-filter.ts";
import { IMAGE_STATUSES } from "../domain/image-status.ts";
import { VISIBILITIES } from "../domain/visibility.ts";
import { isAdmin } from "./caller.ts";
import { allowedChanges, operationsIn, readChanges } from "./image-changes.ts";
import {
  inWordsFor,
  noContent,
  queryOf,
  requireImage,
  requireUse,
  type ApiContext,
  type Routes,
  type SeenImage,
  untilTheEnd,
} from "./context.ts";
import { MOST_PROPERTIES } from "./image-attributes.ts";
import { described } from "./open-api.ts";
import { id, LARGEST_LIMIT, readJsonFilter, text, time } from "./view-filter.ts";

interface IdRoute {
  Params: { id: string };
}

const LONGEST_WAIT_MS = 30_000;
const MOST_TIMES = 12;

const count = z.int().min(0);
const minimum = z
  .int()
  .min(0)
  .max(2 ** 31 - 1);
const filterSchema = z.strictObject({
  marker: id.optional(),
  limit: z.int().min(0).max(LARGEST_LIMIT).optional(),
  sort: z
    .array(z.strictObject({ key: z.enum(IMAGE_SORT_KEYS), direction: z.enum(["asc", "desc"]) }))
    .max(IMAGE_SORT_KEYS.length)
    .optional(),
  visibility: z.enum(VISIBILITIES).optional(),
  protected: z.boolean().optional(),
  hidden: z.boolean().optional(),
  checksum: text.optional(),
  osHashValue: text.optional(),
  minDisk: minimum.optional(),
  minDiskMin: minimum.optional(),
  minDiskMax: minimum.optional(),
  minRam: minimum.optional(),
  minRamMin: minimum.optional(),
  minRamMax: minimum.optional(),
  times: z
    .array(
      z.strictObject({
        field: z.enum(["created_at", "updated_at"]),
        op: z.enum(["gt", "gte", "lt", "lte", "eq", "neq"]),
        at: time,
      }),
    )
    .max(MOST_TIMES)
    .optional(),
  status: z.enum(IMAGE_STATUSES).exclude(["deleted"]).optional(),
  owner: text.nullable().optional(),
  namePattern: text.optional(),
  diskFormat: z.enum(DISK_FORMATS).optional(),
  containerFormat: z.enum(CONTAINER_FORMATS).optional(),
  store: text.optional(),
  tags: z.array(text).max(MOST_PROPERTIES).optional(),
  properties: z
    .record(text, text)
    .refine((given) => Object.keys(given).length <= MOST_PROPERTIES, "too many")
    .optional(),
  sizeMin: count.optional(),
  sizeMax: count.optional(),
  createdAfter: time.optional(),
  createdBefore: time.optional(),
  updatedAfter: time.optional(),
  updatedBefore: time.optional(),
});

/** Images as the typed client shows them, for `image-import --api`: with all fields. */
export const viewRoutes: Routes = (app, context) => {
  const { images, files } = context.client;

  app.get(
    "/v1/images",
    described("List images as `image-import` shows them", {
      refusesBody: true,
      answers: { 200: undefined },
    }),
    async (request) => {
      requireUse(request, "get_images");
      const filter = readJsonFilter(filterSchema, queryOf(request).get("filter"));
      const listed = await images.list({ ...filter, seenBy: seenBy(request) });
      return { images: listed.map((image) => shown(request, image)) };
    },
  );

  app.get<IdRoute>(
    "/v1/images/:id",
    described("Show an image by its id, the beginning of it, or its name", {
      refusesBody: true,
      answers: { 200: undefined },
    }),
    async (request) => {
      requireUse(request, "get_images");
      const id = await images.resolve(request.params.id, seenBy(request));
      return shown(request, (await requireImage(context, request, id, "get_image")).image);
    },
  );

  app.patch<IdRoute>(
    "/v1/images/:id",
    described("Change an image: all of the changes are made, or none", {
      body: "changes",
      answers: { 200: undefined },
    }),
    async (request) => {
      const wanted = readChanges(request.body);
      const { id } = request.params;
      const { image, judged, guard } = await requireImage(context, request, id, "modify_image");
      const changed = await images.change(
        image.id,
        (current) =>
          allowedChanges(current, operationsIn(current, wanted), "v2.1", {
            caller: request.caller,
            judged,
          }),
        guard,
      );
      return shown(request, changed);
    },
  );

  app.delete<IdRoute>(
    "/v1/images/:id",
    described("Delete an image, and wait until its bytes are removed, at most 30 s", {
      refusesBody: true,
      answers: { 200: undefined },
    }),
    async (request) => {
      const { id } = request.params;
      const { image, guard } = await requireImage(context, request, id, "delete_image");
      const deleted = images.delete(image.id, LONGEST_WAIT_MS, guard);
      return { id: image.id, status: await untilTheEnd(context, deleted) };
    },
  );

  app.post<IdRoute>(
    "/v1/images/:id/discard",
    described("Delete an image that was never published and that no import holds", {
      refusesBody: true,
      answers: { 200: undefined },
    }),
    async (request) => {
      const { id } = request.params;
      const { image, guard } = await requireImage(context, request, id, "delete_image");
      return { id: image.id, discarded: await images.discard(image.id, undefined, guard) };
    },
  );

  app.get<IdRoute>(
    "/v1/images/:id/history",
    described("Show what happened to an image", { refusesBody: true, answers: { 200: undefined } }),
    async (request) => {
      const { image } = await requireImage(context, request, request.params.id, "get_task");
      return { history: inWordsFor(request, await images.history(image.id)) };
    },
  );

  app.get<IdRoute>(
    "/v1/images/:id/stage",
    described("Show the staged data of an image: its size and digests", {
      refusesBody: true,
      answers: { 200: undefined },
    }),
    async (request) => {
      const { image } = await requireStageable(context, request);
      return inWordsFor(request, await files.staged(image.id));
    },
  );

  app.delete<IdRoute>(
    "/v1/images/:id/stage",
    described("Remove the staged data of an image that no import holds", {
      refusesBody: true,
      answers: { 204: undefined },
    }),
    async (request, reply) => {
      const { image, guard } = await requireStageable(context, request);
      await files.unstage(image.id, guard);
      return noContent(reply);
    },
  );
};

async function requireStageable(
  context: ApiContext,
  request: FastifyRequest<IdRoute>,
): Promise<SeenImage> {
  return requireImage(context, request, request.params.id, "stage_image");
}

/** As Glance does, addresses of copies are shown to administrators alone. */
function shown({ caller }: FastifyRequest, image: ImageView): ImageView {
  return isAdmin(caller) ? image : { ...image, locations: [] };
}

/** The part of the catalogue that the caller sees; undefined: everything. */
function seenBy({ caller }: FastifyRequest): SeenBy | undefined {
  if (isAdmin(caller)) return undefined;
  return { project: caller.project, memberStatus: "all", community: true };
}
