import type { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { ImportError } from "../domain/import-failure.ts";
import type { ApiContext } from "./context.ts";
import { HttpFailure } from "./http-failure.ts";
import { sendContinue } from "./request-body.ts";

/**
 * Runs the work that takes the bytes of a request as they come. The work is aborted when the sender
 * closes the connection or sends nothing for too long, and when this server must stop.
 *
 * @throws HttpFailure 400, 408, 503; what the work throws
 */
export async function receive<T>(
  { settings, stopping }: ApiContext,
  request: FastifyRequest,
  reply: FastifyReply,
  work: (bytes: Readable, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { raw } = request;
  const { socket } = raw;
  const ended = new AbortController();
  const onTimeout = (): void => {
    ended.abort(
      new HttpFailure(408, `No byte came for ${String(settings.idleTimeoutMs / 1000)} s.`),
    );
  };
  const onClose = (): void => {
    if (!raw.complete)
      ended.abort(new HttpFailure(400, "The connection broke before the data was complete."));
  };
  // With a listener on the request, the server does not drop an idle connection.
  raw.on("timeout", onTimeout);
  // The work after the last byte may take longer than a connection may be idle.
  raw.once("end", () => socket.setTimeout(0));
  socket.on("close", onClose);
  if (socket.destroyed) onClose();
  sendContinue(request, reply);
  const signal = AbortSignal.any([ended.signal, stopping]);
  try {
    return await work(raw, signal);
  } catch (error) {
    const isInterrupted = error instanceof ImportError && error.code === "Interrupted";
    if (ended.signal.aborted && isInterrupted) throw ended.signal.reason;
    if (stopping.aborted && isInterrupted) {
      throw new HttpFailure(503, "The server is stopping; send the data again.", { cause: error });
    }
    throw error;
  } finally {
    raw.off("timeout", onTimeout);
    socket.off("close", onClose);
  }
}
