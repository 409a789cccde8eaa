import { z } from "zod";
import type { FastifyRequest } from "fastify";
import { TASK_SORT_KEYS } from "../domain/image-filter.ts";
import { isUuid } from "../domain/import-request.ts";
import { TASK_STATUSES } from "../domain/task-status.ts";
import { isAdmin } from "./caller.ts";
import { inWordsFor, queryOf, requireImage, requireUse, type Routes } from "./context.ts";
import { forbidden, HttpFailure, notFound } from "./http-failure.ts";
import { described } from "./open-api.ts";
import { LARGEST_LIMIT, readJsonFilter } from "./view-filter.ts";

const taskFilter = z.strictObject({
  marker: z.uuid().optional(),
  limit: z.int().min(0).max(LARGEST_LIMIT).optional(),
  sort: z
    .strictObject({ key: z.enum(TASK_SORT_KEYS), direction: z.enum(["asc", "desc"]) })
    .optional(),
  imageId: z.uuid().optional(),
  status: z.enum(TASK_STATUSES).optional(),
  owner: z.string().nullable().optional(),
  createdAfter: z.coerce.date().optional(),
  createdBefore: z.coerce.date().optional(),
  updatedAfter: z.coerce.date().optional(),
  updatedBefore: z.coerce.date().optional(),
});

const document = { refusesBody: true, answers: { 200: undefined } } as const;

/** Tasks, usage and stores as the typed client shows them, for `image-import --api`. */
export const serviceRoutes: Routes = (app, context) => {
  const { admin } = context.client;

  app.get(
    "/v1/tasks",
    described("List tasks as `image-import` shows them", document),
    async (request) => {
      const filter = readJsonFilter(taskFilter, queryOf(request).get("filter"));
      if (filter.imageId === undefined) requireUse(request, "tasks_api_access");
      else await requireImage(context, request, filter.imageId, "get_task");
      return { tasks: inWordsFor(request, await admin.listTasks(filter)) };
    },
  );

  app.get<{ Params: { id: string } }>(
    "/v1/tasks/:id",
    described("Show a task by its id; administrators also by the beginning of it", document),
    async (request) => {
      const { id } = request.params;
      if (!isAdmin(request.caller) && !isUuid(id)) throw notFound(`No task found with ID ${id}`);
      const task = await admin.showTask(await admin.resolveTask(id));
      if (!(await mayRead(request, task.image_id))) throw notFound(`No task found with ID ${id}`);
      return inWordsFor(request, task);
    },
  );

  /** True if the caller may read the tasks of an image, which may be gone. */
  async function mayRead(request: FastifyRequest, imageId: string): Promise<boolean> {
    if (isAdmin(request.caller)) return true;
    try {
      await requireImage(context, request, imageId, "get_task");
      return true;
    } catch (error) {
      if (error instanceof HttpFailure) return false;
      throw error;
    }
  }

  app.get(
    "/v1/usage",
    described("Show the usage of an owner's quotas, by default the caller's", document),
    async (request) => {
      requireUse(request, "get_usage");
      const { caller } = request;
      const owner = queryOf(request).get("owner") ?? caller.project;
      if (owner !== caller.project && !isAdmin(caller)) {
        throw forbidden("Only administrators read the usage of other projects.");
      }
      return admin.showUsage(owner);
    },
  );

  app.get(
    "/v1/stores",
    described("List the stores, each of them checked, for administrators", document),
    async (request) => {
      requireUse(request, "stores_info_detail");
      return { stores: inWordsFor(request, await admin.listStores()) };
    },
  );
};
