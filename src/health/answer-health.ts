import type { IncomingMessage, ServerResponse } from "node:http";
import type { Health } from "./health.ts";

/**
 * Answers `/livez` and `/readyz` with a JSON document: 200 if this program is live or ready, else
 * 503. The answer comes at once, from the results of the last checks.
 *
 * @returns false for any other path, which the caller must answer
 */
export function answerHealth(
  health: Health,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  const document = documentAt(health, request.url ?? "");
  if (document === undefined) return false;
  const isRead = request.method === "GET" || request.method === "HEAD";
  if (!isRead) response.setHeader("allow", "GET, HEAD");
  response.writeHead(isRead ? statusOf(document) : 405, {
    "content-type": "application/json",
    "cache-control": "no-store",
  });
  response.end(request.method === "GET" ? `${JSON.stringify(document, null, 2)}\n` : undefined);
  return true;
}

function documentAt(health: Health, url: string): { readonly status: string } | undefined {
  const [path] = url.split("?", 1);
  if (path === "/livez") return health.liveness;
  if (path === "/readyz") return health.readiness;
  return undefined;
}

function statusOf({ status }: { readonly status: string }): number {
  return status === "live" || status === "ready" ? 200 : 503;
}
