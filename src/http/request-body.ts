import type { FastifyReply, FastifyRequest } from "fastify";

/** True if a request has a body, also one whose length is unknown. */
export function hasBody({ headers }: FastifyRequest): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}

/** Asks a client that waits with its body to send it. */
export function sendContinue({ headers }: FastifyRequest, { raw }: FastifyReply): void {
  if (headers.expect?.toLowerCase() === "100-continue") raw.writeContinue();
}
