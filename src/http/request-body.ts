import type { FastifyReply, FastifyRequest } from "fastify";

/** True if a request has a body, also one whose length is unknown. */
export function hasBody({ headers }: FastifyRequest): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}

/** The content type of a request without its parameters, in lower case; undefined: none. */
export function mediaTypeOf({ headers }: Pick<FastifyRequest, "headers">): string | undefined {
  return headers["content-type"]?.split(";", 1)[0]?.trim().toLowerCase();
}

// Deeper than any document of this API. Deeper ones would overflow the stack of recursive
// functions.
const MOST_LEVELS = 100;

/** True if a JSON text has more levels of arrays and objects than any document of this API. */
export function isTooDeep(json: string): boolean {
  let levels = 0;
  let isInString = false;
  for (let index = 0; index < json.length; index += 1) {
    const character = json[index];
    if (isInString) {
      if (character === "\\") index += 1;
      else if (character === '"') isInString = false;
    } else if (character === '"') isInString = true;
    else if (character === "[" || character === "{") levels += 1;
    else if (character === "]" || character === "}") levels -= 1;
    if (levels > MOST_LEVELS) return true;
  }
  return false;
}

/** Permits a client to send its body, if the client waits for that (`Expect: 100-continue`). */
export function sendContinue({ headers }: FastifyRequest, { raw }: FastifyReply): void {
  if (headers.expect?.toLowerCase() === "100-continue") raw.writeContinue();
}
