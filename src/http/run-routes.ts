import { z } from "zod";
import type { FastifyReply, FastifyRequest } from "fastify";
import { requireImage, type ApiContext, type Routes } from "./context.ts";
import { badRequest } from "./http-failure.ts";
import { answerTo } from "./failure-answer.ts";
import { described } from "./open-api.ts";

interface IdRoute {
  Params: { id: string };
}

const dropStore = z.strictObject({ store: z.string().min(1) });
// A proxy on the way may drop a connection on which nothing moves for longer.
const KEEP_ALIVE_MS = 15_000;

/** Steering of our own: the newest import of an image is shown, followed, paused, cancelled. */
export const runRoutes: Routes = (app, context) => {
  const { client } = context;

  app.get<IdRoute>(
    "/v1/imports/:id",
    described("Show the newest import of an image", {
      refusesBody: true,
      answers: { 200: undefined },
    }),
    async (request) => {
      const { image } = await requireImage(context, request, request.params.id, "get_task");
      return client.imports.report(image.id);
    },
  );

  app.get<IdRoute>(
    "/v1/imports/:id/events",
    described("Follow the newest import of an image: server-sent events", {
      refusesBody: true,
      answers: { 200: undefined },
    }),
    async (request, reply) => {
      const { image } = await requireImage(context, request, request.params.id, "get_task");
      await follow(context, image.id, request, reply);
    },
  );

  const actions = {
    pause: { summary: "Pause an import", act: client.imports.pause.bind(client.imports) },
    resume: { summary: "Resume an import", act: client.imports.resume.bind(client.imports) },
    cancel: { summary: "Cancel an import", act: (id: string) => client.imports.cancel(id) },
  } as const;
  for (const action of ["pause", "resume", "cancel"] as const) {
    const { summary, act } = actions[action];
    app.post<IdRoute>(
      `/v1/imports/:id/${action}`,
      described(summary, { refusesBody: true, answers: { 202: undefined } }),
      async (request, reply) => {
        const { image } = await requireImage(context, request, request.params.id, "steer_import");
        const isReceived = await act(image.id);
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
      const stores = await client.imports.dropStore(image.id, parsed.data.store);
      return { image_id: image.id, stores };
    },
  );
};

/** Sends each status as an event until the import has ended; the last event is the report of it. */
async function follow(
  { client, stopping }: ApiContext,
  imageId: string,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const gone = new AbortController();
  reply.raw.once("close", () => {
    gone.abort();
  });
  // Fails before the first byte of the answer if there is no import.
  const report = await client.imports.report(imageId);
  reply.hijack();
  request.raw.socket.setTimeout(0);
  reply.raw.writeHead(200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-openstack-request-id": request.id,
  });
  const send = (event: string, document: unknown): void => {
    reply.raw.write(`event: ${event}\ndata: ${JSON.stringify(document)}\n\n`);
  };
  send("report", report);
  const alive = setInterval(() => reply.raw.write(": alive\n\n"), KEEP_ALIVE_MS);
  try {
    const until = AbortSignal.any([gone.signal, stopping]);
    if (report.state === "running" || report.state === "waiting") {
      for await (const status of client.imports.watch(imageId)) {
        if (until.aborted) break;
        send("status", status);
      }
    }
    if (!until.aborted) send("end", await client.imports.report(imageId));
  } catch (error) {
    send("failure", answerTo(error).document);
  } finally {
    clearInterval(alive);
    reply.raw.end();
  }
}
