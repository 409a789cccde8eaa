import type { OutgoingHttpHeaders } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { ImportReport } from "../client/import-report.ts";
import { isAdmin } from "./caller.ts";
import { inWordsFor, type ApiContext } from "./context.ts";
import { answerTo } from "./failure-answer.ts";
import { partyOf } from "./listeners.ts";

// A proxy may drop a connection on which no byte moves for longer than this.
const KEEP_ALIVE_MS = 15_000;
const MOST_UNREAD_BYTES = 1024 * 1024;

/** The import to follow: the given run, or the newest import of the image. */
interface Followed {
  readonly imageId: string;
  readonly runId: string | undefined;
}

/**
 * Sends each status as an event until the import has ended. The last event is `end` with the
 * report, or `outcome` for a given run. If the import cannot be followed, it is `failure`.
 */
export async function follow(
  { client, stopping }: ApiContext,
  { imageId, runId }: Followed,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const gone = new AbortController();
  reply.raw.once("close", () => {
    gone.abort();
  });
  // The client may have left while the image was looked up.
  if (reply.raw.destroyed) gone.abort();
  const report = (): Promise<ImportReport> =>
    client.imports.report(imageId, { withCanceller: isAdmin(request.caller) });
  // Fails before the first byte of the answer if there is no import.
  const first = runId === undefined ? await report() : undefined;
  reply.hijack();
  reply.raw.writeHead(200, {
    ...(reply.getHeaders() as OutgoingHttpHeaders),
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-openstack-request-id": request.id,
  });
  const send = (event: string, document: unknown): void => {
    const text = JSON.stringify(inWordsFor(request, document));
    reply.raw.write(`event: ${event}\ndata: ${text}\n\n`);
    // Do not collect events in memory for a client that does not read them.
    if (reply.raw.writableLength > MOST_UNREAD_BYTES) reply.raw.destroy();
  };
  if (first === undefined) reply.raw.write(": following\n\n");
  else send("report", first);
  const alive = setInterval(() => reply.raw.write(": alive\n\n"), KEEP_ALIVE_MS);
  const until = AbortSignal.any([gone.signal, stopping]);
  try {
    if (first === undefined || first.state === "running" || first.state === "waiting") {
      const party = partyOf(request.caller);
      for await (const status of client.imports.watch(imageId, { runId, ended: until, party })) {
        if (until.aborted) break;
        send("status", status);
      }
    }
    if (until.aborted) return;
    if (runId === undefined) send("end", await report());
    else send("outcome", await client.imports.wait(imageId, runId));
  } catch (error) {
    const { document, level } = answerTo(error, request);
    if (level !== undefined) {
      request.log[level]({ err: error, request_id: request.id }, "An import cannot be followed");
    }
    send("failure", document);
  } finally {
    clearInterval(alive);
    reply.raw.end();
  }
}
