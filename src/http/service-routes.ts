import { z } from "zod";
import type { FastifyRequest } from "fastify";
import type { TaskView } from "../client/image-view.ts";
import { TASK_SORT_KEYS } from "../domain/image-filter.ts";
import { ImportError } from "../domain/import-failure.ts";
import { isUuid } from "../domain/import-request.ts";
import { TASK_STATUSES } from "../domain/task-status.ts";
import { isAdmin } from "./caller.ts";
import {
  inWordsFor,
  mayReadTasks,
  queryOf,
  requireImage,
  requireUse,
  type Routes,
} from "./context.ts";
import { forbidden, notFound } from "./http-failure.ts";
import { described } from "./open-api.ts";
import { id, LARGEST_LIMIT, readJsonFilter, text, time } from "./view-filter.ts";

const taskFilter = z.strictObject({
  marker: id.optional(),
  limit: z.int().min(0).max(LARGEST_LIMIT).optional(),
  sort: z
    .array(z.strictObject({ key: z.enum(TASK_SORT_KEYS), direction: z.enum(["asc", "desc"]) }))
    .max(TASK_SORT_KEYS.length)
    .optional(),
  imageId: id.optional(),
  status: z.enum(TASK_STATUSES).optional(),
  owner: text.nullable().optional(),
  createdAfter: time.optional(),
  createdBefore: time.optional(),
  updatedAfter: time.optional(),
  updatedBefore: time.optional(),
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
      // Administrators read the tasks of deleted images, too.
      else if (!isAdmin(request.caller))
        await requireImage(context, request, filter.imageId, "get_task");
      return { tasks: inWordsFor(request, await admin.listTasks(filter)) };
    },
  );

  app.get<{ Params: { id: string } }>(
    "/v1/tasks/:id",
    described("Show a task by its id; administrators also by the beginning of it", document),
    async (request) => {
      const { id: reference } = request.params;
      const task = await findTask(request, reference);
      if (task === undefined) throw notFound(`No task found with ID ${reference}`);
      return inWordsFor(request, task);
    },
  );

  /** Finds a task that the caller may read; undefined: absent, or not for this caller. */
  async function findTask(
    request: FastifyRequest,
    reference: string,
  ): Promise<TaskView | undefined> {
    if (isAdmin(request.caller)) return admin.showTask(await admin.resolveTask(reference));
    if (!isUuid(reference)) return undefined;
    try {
      const task = await admin.showTask(reference);
      return (await mayReadTasks(context, request, task.image_id)) ? task : undefined;
    } catch (error) {
      if (error instanceof ImportError && error.code === "TaskNotFound") return undefined;
      throw error;
    }
  }

  app.get(
    "/v1/usage",
    described("Show the usage of an owner's quotas, by default the caller's", document),
    async (request) => {
      requireUse(request, "get_usage");
      const { caller } = request;
      const named = queryOf(request).get("owner") ?? caller.project;
      // `owner=`: for administrators the images without an owner.
      const unnamed = isAdmin(caller) ? null : caller.project;
      const owner = named === "" ? unnamed : named;
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
      // The answer has messages of the stores' servers and disks.
      if (!isAdmin(request.caller))
        throw forbidden("Only administrators read the stores as checked.");
      return { stores: inWordsFor(request, await admin.listStores()) };
    },
  );
};
