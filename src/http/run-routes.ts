import { z } from "zod";
import type { FastifyRequest } from "fastify";
import type { AcceptedCopy } from "../workflow/contract.ts";
import { UnansweredStart } from "../client/unanswered-start.ts";
import { isAdmin, type Caller } from "./caller.ts";
import { checkOrigin } from "./check-origin.ts";
import {
  atTheEnd,
  expectedOwner,
  inWordsFor,
  mayReadTasks,
  queryOf,
  requireImage,
  type ApiContext,
  type Routes,
  type SeenImage,
  untilTheEnd,
} from "./context.ts";
import { badRequest, forbidden } from "./http-failure.ts";
import { requireStores } from "./import-body.ts";
import { follow } from "./follow.ts";
import { Listeners } from "./listeners.ts";
import { described } from "./open-api.ts";
import { startBody, type StartBody } from "./start-body.ts";

interface IdRoute {
  Params: { id: string };
}

// `copy-image` copies checked bytes as they are.
const OF_NEW_BYTES = ["detect_format", "checksum", "size", "transforms"] as const;

const dropStore = z.strictObject({ store: z.string().min(1) });

/**
 * The routes of this service for imports: list, start, show, follow, pause, cancel, drop a store.
 */
export const runRoutes: Routes = (app, context) => {
  const { client, config } = context;
  const listeners = new Listeners();

  app.get(
    "/v1/imports",
    described("List the imports that run", { refusesBody: true, answers: { 200: undefined } }),
    async (request) => {
      const running = await client.imports.running();
      const seen = await Promise.all(
        running.map(async (each) =>
          (await mayReadTasks(context, request, each.image_id)) ? each : [],
        ),
      );
      return { imports: seen.flat() };
    },
  );

  app.post<IdRoute>(
    "/v1/imports/:id",
    described("Start an import, and wait until a worker accepts or refuses it", {
      body: "start",
      answers: { 202: undefined },
    }),
    async (request, reply) => {
      const { data: wanted, error } = startBody.safeParse(request.body);
      if (wanted === undefined) throw badRequest(z.prettifyError(error));
      const action = wanted.method === "copy-image" ? "copy_image" : "import_image";
      const { image } = await requireImage(context, request, request.params.id, action);
      requireStores(config, wanted.stores);
      try {
        const accepted = await start(context, request, image, wanted);
        return await reply.code(202).send({ ...accepted, accepted: true });
      } catch (failure) {
        if (!(failure instanceof UnansweredStart) || failure.run === undefined) {
          throw atTheEnd(context, image.id, failure);
        }
        return await reply.code(202).send({ ...failure.run, task_id: null, accepted: false });
      }
    },
  );

  app.get<IdRoute>(
    "/v1/imports/:id",
    described("Show the newest import of an image", {
      refusesBody: true,
      answers: { 200: undefined },
    }),
    async (request) => {
      const { image } = await requireImage(context, request, request.params.id, "get_task");
      return inWordsFor(
        request,
        await client.imports.report(image.id, { withCanceller: isAdmin(request.caller) }),
      );
    },
  );

  app.get<IdRoute>(
    "/v1/imports/:id/events",
    described("Follow an import of an image, by default the newest: server-sent events", {
      refusesBody: true,
      answers: { 200: undefined },
    }),
    async (request, reply) => {
      const { image } = await requireImage(context, request, request.params.id, "get_task");
      const runId = queryOf(request).get("run_id") ?? undefined;
      const leave = listeners.add(request.caller);
      try {
        await follow(context, { imageId: image.id, runId }, request, reply);
      } finally {
        leave();
      }
    },
  );

  const actions = {
    pause: { summary: "Pause an import", act: (id: string) => client.imports.pause(id) },
    resume: { summary: "Resume an import", act: (id: string) => client.imports.resume(id) },
    cancel: {
      summary: "Cancel an import",
      act: (id: string, { user }: Caller) =>
        client.imports.cancel(id, user === null ? {} : { by: user }),
    },
  } as const;
  for (const action of ["pause", "resume", "cancel"] as const) {
    const { summary, act } = actions[action];
    app.post<IdRoute>(
      `/v1/imports/:id/${action}`,
      described(summary, { refusesBody: true, answers: { 202: undefined } }),
      async (request, reply) => {
        const { image } = await requireImage(context, request, request.params.id, "steer_import");
        const isReceived = await act(image.id, request.caller);
        return reply.code(202).send({ image_id: image.id, received: isReceived });
      },
    );
  }

  app.post<IdRoute>(
    "/v1/imports/:id/drop-store",
    described("Drop one store of a running import", { body: "store", answers: { 200: undefined } }),
    async (request) => {
      const parsed = dropStore.safeParse(request.body);
      if (!parsed.success) throw badRequest(z.prettifyError(parsed.error));
      const { image } = await requireImage(context, request, request.params.id, "steer_import");
      const dropped = client.imports.dropStore(image.id, parsed.data.store);
      const stores = await untilTheEnd(context, dropped);
      return { image_id: image.id, stores };
    },
  );
};

async function start(
  context: ApiContext,
  { id: requestId, caller, body }: FastifyRequest,
  image: SeenImage["image"],
  wanted: StartBody,
): Promise<AcceptedCopy> {
  const { imports } = context.client;
  const { id, name } = image;
  const { method, uri, transforms } = wanted;
  if (transforms !== undefined && !isAdmin(caller)) {
    throw forbidden("Only administrators choose the transforms of an import.");
  }
  const options = {
    stores: wanted.stores,
    allStores: wanted.all_stores,
    allStoresMustSucceed: wanted.all_stores_must_succeed,
    acceptTimeoutMs: wanted.accept_timeout_ms,
    signal: context.stopping,
    requestId: wanted.request_id ?? requestId,
    imageName: name ?? undefined,
    expectedOwner: expectedOwner(caller, image),
    userId: caller.user ?? undefined,
    apiRequest: body as Record<string, unknown>,
  };
  if (method === "web-download") await checkOrigin(context, uri ?? "");
  // With another method, a uri names a file of this host. Callers of the API may not name one.
  else if (uri !== undefined) throw badRequest("Only web-download takes a uri.");
  if (method === "copy-image") {
    const unused = OF_NEW_BYTES.find((field) => wanted[field] !== undefined);
    if (unused !== undefined) throw badRequest(`copy-image does not take ${unused}.`);
    return imports.copy(id, options);
  }
  return imports.start(id, {
    ...options,
    method,
    uri,
    transforms,
    detectFormat: wanted.detect_format,
    checksum: wanted.checksum,
    size: wanted.size,
    roles: [...caller.roles],
  });
}
