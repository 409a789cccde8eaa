import { z } from "zod";
import { isUuid } from "../domain/import-request.ts";
import { checkOrigin } from "./check-origin.ts";
import { inWordsFor, queryOf, requireImage, requireUse, type Routes } from "./context.ts";
import { badRequest, forbidden, HttpFailure, notFound } from "./http-failure.ts";
import { pagePath, readLimit } from "./list-query.ts";
import { described } from "./open-api.ts";
import { wireTask, wireTaskStub } from "./wire-image.ts";

const newTask = z.object({ input: z.object({ import_from: z.string() }) });

interface IdRoute {
  Params: { id: string };
}

// More than an image has: tasks expire.
const MOST_OF_AN_IMAGE = 500;

/** Tasks: the imports of an image, and those of all images. */
export const taskRoutes: Routes = (app, context) => {
  const { admin } = context.client;

  app.get<IdRoute>(
    "/v2/images/:id/tasks",
    described("List the imports of an image", { refusesBody: true, answers: { 200: "tasks" } }),
    async (request) => {
      const { image } = await requireImage(context, request, request.params.id, "get_task");
      const tasks = await admin.listTasks({ imageId: image.id, limit: MOST_OF_AN_IMAGE });
      // As with Glance, an upload that begins its import (PUT of `file`, or tus) has no task.
      const imports = tasks.filter(({ input }) => !("direct_upload" in input));
      return { tasks: inWordsFor(request, imports).map(wireTask) };
    },
  );

  app.get(
    "/v2/tasks",
    described("List the imports of all images", { answers: { 200: "tasks" } }),
    async (request) => {
      requireUse(request, "tasks_api_access");
      const query = queryOf(request);
      const limit = readLimit(query);
      const marker = query.get("marker") ?? undefined;
      if (marker !== undefined && !isUuid(marker))
        throw badRequest(`Marker "${marker}" is not an id.`);
      const status = query.get("status");
      const known = (["pending", "processing", "success", "failure"] as const).find(
        (each) => each === status,
      );
      const isNothing = limit === 0 || (status !== null && known === undefined);
      const tasks = isNothing ? [] : await admin.listTasks({ limit, marker, status: known });
      const last = tasks.at(-1);
      return {
        tasks: tasks.map(wireTaskStub),
        first: pagePath("/v2/tasks", query, undefined),
        ...(last !== undefined && tasks.length === limit
          ? { next: pagePath("/v2/tasks", query, last.id) }
          : {}),
        schema: "/v2/schemas/tasks",
      };
    },
  );

  app.get<IdRoute>(
    "/v2/tasks/:id",
    described("Show an import", { refusesBody: true, answers: { 200: "task" } }),
    async (request) => {
      requireUse(request, "tasks_api_access");
      const { id } = request.params;
      if (!isUuid(id)) throw notFound(`No task found with ID ${id}`);
      return wireTask(await admin.showTask(id));
    },
  );

  app.post(
    "/v2/tasks",
    described("Refused: images are imported by their own route", { answers: {} }),
    async (request) => {
      // A forbidden URL in it is reported first, as Glance does.
      requireUse(request, "add_image");
      const { input } = newTask.safeParse(request.body).data ?? {};
      if (input !== undefined) await checkOrigin(context, input.import_from);
      throw forbidden(
        "Tasks cannot be created here. POST /v2/images/{image_id}/import imports an image.",
      );
    },
  );

  app.delete("/v2/tasks/:id", described("Refused: tasks expire", { answers: {} }), () => {
    throw new HttpFailure(405, "Tasks cannot be deleted; they expire.", {
      headers: { allow: "GET" },
    });
  });
};
