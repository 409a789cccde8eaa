import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import cors from "@fastify/cors";
import fastify, {
  LogController,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from "fastify";
import type { Logger } from "pino";
import { answerHealth } from "../health/answer-health.ts";
import { actionRoutes } from "./action-routes.ts";
import type { Caller } from "./caller.ts";
import { rootUrl, serverEnds, type ApiContext } from "./context.ts";
import { answerTo, failureDocument } from "./failure-answer.ts";
import { fileRoutes } from "./file-routes.ts";
import { badRequest, HttpFailure, notFound } from "./http-failure.ts";
import { imageRoutes } from "./image-routes.ts";
import { importRoutes } from "./import-routes.ts";
import { infoRoutes } from "./info-routes.ts";
import { isLoopback } from "./loopback.ts";
import { linger } from "./linger.ts";
import { memberRoutes } from "./member-routes.ts";
import { openApi, openRoute } from "./open-api.ts";
import { hasBody, isTooDeep, sendContinue } from "./request-body.ts";
import { runRoutes } from "./run-routes.ts";
import { serviceRoutes } from "./service-routes.ts";
import { schemaRoutes } from "./schema-routes.ts";
import { tagRoutes } from "./tag-routes.ts";
import { taskRoutes } from "./task-routes.ts";
import { TUS_ANSWER, TUS_TYPE, tusHeaders } from "./tus.ts";
import { uploadRoutes } from "./upload-routes.ts";
import { API_PREFIX, versionsDocument } from "./versions.ts";
import { viewRoutes } from "./view-routes.ts";

/** The largest body that is not bytes of an image: memory holds all of it. */
const LARGEST_DOCUMENT_BYTES = 1024 * 1024;
const HEADERS_WITHIN_MS = 60_000;
const DOCUMENT_WITHIN_MS = 60_000;
const LONGEST_REQUEST_ID = 64;
const LONGEST_LOGGED_PATH = 300;

// Paths that clients send without `/v2`, where their endpoint is the root.
const ROOT_FORMS = /^\/(?:images|info|schemas|stores|tasks|metadefs|tenants)(?=\/|$|\?)/;
// The paths of tus.
const UPLOADS = /^\/uploads(?=[/?]|$)/;
// The paths that Glance does not have.
const OWN = /^\/(?:v1|uploads)(?=\/|$|\?)/;

/** The Fastify server of this API. Its logger is one of pino. */
export type Api = FastifyInstance;

/** Builds the server; it does not listen yet. */
export async function buildApi(context: ApiContext, logger: Logger): Promise<Api> {
  const { settings } = context;
  const app = fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => `req-${randomUUID()}`,
    requestIdHeader: false,
    bodyLimit: LARGEST_DOCUMENT_BYTES,
    exposeHeadRoutes: false,
    forceCloseConnections: "idle",
    // The framework's own answer has another shape, on which clients break.
    return503OnClosing: false,
    routerOptions: { ignoreDuplicateSlashes: true, maxParamLength: 1024 },
    rewriteUrl: ({ url = "/" }) => pathOfApi(url),
    frameworkErrors: refuse,
    clientErrorHandler: answerUnreadable,
    serverFactory: (handler) => serverOf(handler, settings.idleTimeoutMs),
  }) as unknown as Api;
  readBodies(app);
  const seen = followRoutes(app);
  announceUploads(app, context.config.limits.imageSizeCapBytes);
  if (settings.allowedOrigins.length > 0) await allowOrigins(app, settings.allowedOrigins);
  await openApi(app);
  identifyCallers(app, context, seen);
  endWithLastAnswer(app);
  app.setErrorHandler(refuse);
  app.setNotFoundHandler((request, reply) => {
    answerUnknown(context, seen, request, reply);
  });
  app.get("/", openRoute("List the versions of the API"), (request, reply) =>
    choices(context, request, reply),
  );
  app.get("/v2", openRoute("List the versions of the API"), (request, reply) =>
    choices(context, request, reply),
  );
  app.get("/versions", openRoute("List the versions of the API, with status 200"), (request) =>
    versionsDocument(rootUrl(context, request)),
  );
  serveHealth(app, context);
  app.after(() => {
    for (const routes of [
      ...[imageRoutes, fileRoutes, importRoutes, taskRoutes, tagRoutes, memberRoutes],
      ...[
        actionRoutes,
        infoRoutes,
        schemaRoutes,
        runRoutes,
        viewRoutes,
        uploadRoutes,
        serviceRoutes,
      ],
    ]) {
      routes(app, context);
    }
  });
  await app.ready();
  return app;
}

/** `/v2.7/images` and `/images` are `/v2/images`. */
function pathOfApi(url: string): string {
  if (ROOT_FORMS.test(url)) return `/v2${url}`;
  return url.replace(API_PREFIX, "/v2").replace(/^\/v2\/(?=\?|$)/, "/v2");
}

function serverOf(
  handler: (request: IncomingMessage, response: ServerResponse) => void,
  idleTimeoutMs: number,
): Server {
  const server = createServer(
    {
      requestTimeout: 0,
      headersTimeout: HEADERS_WITHIN_MS,
      connectionsCheckingInterval: 5_000,
      keepAliveTimeout: 75_000,
    },
    handler,
  );
  // A connection on which no byte moves is ended; a handler that waits for an import switches this
  // off.
  server.timeout = idleTimeoutMs;
  // The handler asks for the body with `sendContinue`, once it knows that the caller may send it.
  server.on("checkContinue", handler);
  return server;
}

function readBodies(app: Api): void {
  const parseJson = app.getDefaultJsonParser("error", "error");
  app.removeAllContentTypeParsers();
  // Clients of Glance send many content types, and `application/octet-stream` also without a body.
  app.addContentTypeParser(["application/octet-stream", TUS_TYPE], (_request, _payload, done) => {
    done(null, undefined);
  });
  app.addContentTypeParser("*", { parseAs: "string" }, (request, body, done) => {
    if (body === "") {
      done(null, undefined);
      return;
    }
    if (isTooDeep(body as string)) done(badRequest("The JSON of the request body is too deep."));
    else void parseJson(request, body as string, done);
  });
}

/** Closes connections on which no request runs when the server stops: they would hold it up. */
function endWithLastAnswer(app: Api): void {
  let isClosing = false;
  // Connections before their first request. Node does not count them as idle.
  const unused = new Set<Socket>();
  app.server.on("connection", (socket) => {
    unused.add(socket);
    socket.once("close", () => unused.delete(socket));
  });
  // Also for an answer that its route wrote itself, for which the framework has no hook.
  const follow = ({ socket }: IncomingMessage, response: ServerResponse): void => {
    unused.delete(socket);
    response.once("close", () => {
      if (!isClosing) return;
      setImmediate(() => {
        app.server.closeIdleConnections();
      });
    });
  };
  app.server.on("request", follow).on("checkContinue", follow);
  app.addHook("preClose", async () => {
    isClosing = true;
    for (const socket of unused) socket.destroy();
  });
}

function identifyCallers(
  app: Api,
  context: ApiContext,
  seen: ReadonlyMap<string, SeenRoute>,
): void {
  const { identity } = context;
  app.decorateRequest("caller");
  let isClosing = false;
  app.addHook("preClose", async () => {
    isClosing = true;
  });
  app.addHook("onRequest", async (request, reply) => {
    reply.header("x-openstack-request-id", request.id);
    if (isClosing) {
      reply.header("connection", "close");
      throw serverEnds("The server is stopping.");
    }
    if (isConfusedByConnections(request)) reply.header("connection", "close");
    requireShortId(request);
    requireTarget(request);
    if (/%00/.test(pathOf(request))) throw notFound("There is nothing at this address.");
    const { isOpen, takesBytes, refusesBody } = request.routeOptions.config;
    // Answered here: the handler for unknown paths runs only after the body was read.
    if (request.is404) {
      answerUnknown(context, seen, request, reply);
      return reply;
    }
    if (isOpen === true) {
      if (!hasBody(request)) return;
      throw badRequest("A body is not expected with this request. Please remove it.");
    }
    request.caller = await identity.identify({
      headers: request.headers,
      method: request.method,
      path: pathOf(request),
    });
    if (refusesBody === true && hasBody(request)) {
      throw badRequest("A body is not expected with this request. Please remove it.");
    }
    if (takesBytes === true) return;
    endSlowDocument(request);
    sendContinue(request, reply);
  });
  // The answer may take longer than a connection may be idle.
  app.addHook("preHandler", async ({ raw }) => {
    if (raw.complete) raw.socket.setTimeout(0);
  });
  app.addHook("onResponse", async (request, reply) => {
    const { method } = request;
    // A request has none if its route is open, or if it was refused before its identification.
    const caller = request.caller as Caller | undefined;
    request.log.info(
      {
        request_id: request.id,
        method,
        path: pathOf(request).slice(0, LONGEST_LOGGED_PATH),
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime),
        ...(caller === undefined ? {} : { user: caller.user, project: caller.project }),
      },
      "Answered a request",
    );
  });
}

/**
 * True for OpenStack's own command line: where its stdin is closed, its open connection to this
 * server takes the place of stdin, and it fails when it looks there for the data of an image.
 */
function isConfusedByConnections({ method, headers }: FastifyRequest): boolean {
  return method === "GET" && /\bkeystoneauth1\//.test(headers["user-agent"] ?? "");
}

function pathOf({ url }: FastifyRequest): string {
  return url.split("?", 1)[0] ?? "";
}

/**
 * A fragment is not part of a request. The router would cut it off, and access rules would not.
 *
 * @throws HttpFailure 400
 */
function requireTarget({ raw: { url = "" } }: FastifyRequest): void {
  if (url.includes("#")) throw badRequest("The target of a request has no fragment: remove the #.");
}

/** Drops a request whose document does not come in time: memory holds it until it is complete. */
function endSlowDocument({ raw }: FastifyRequest): void {
  if (raw.complete) return;
  const timer = setTimeout(() => raw.socket.destroy(), DOCUMENT_WITHIN_MS);
  const stop = (): void => {
    clearTimeout(timer);
  };
  raw.once("end", stop).once("close", stop);
}

function requireShortId({ headers }: FastifyRequest): void {
  const given = headers["x-openstack-request-id"];
  if (typeof given !== "string" || given.length <= LONGEST_REQUEST_ID) return;
  throw new HttpFailure(
    431,
    `The header X-Openstack-Request-ID has ${String(given.length)} characters, and may have ${String(LONGEST_REQUEST_ID)}.`,
  );
}

/**
 * Adds the version of tus to each answer about an upload, also to refusals before the route.
 * Answers to OPTIONS name the extensions, too, also for browsers that ask for permission
 * (preflight).
 */
function announceUploads(app: Api, largestBytes: number): void {
  app.addHook("onRequest", async ({ method, url }, reply) => {
    if (!UPLOADS.test(url)) return;
    reply.headers(method === "OPTIONS" ? tusHeaders(largestBytes) : TUS_ANSWER);
  });
}

async function allowOrigins(app: Api, origins: readonly string[]): Promise<void> {
  await app.register(cors, {
    origin: origins.includes("*") ? "*" : [...origins],
    methods: ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"],
    allowedHeaders: [
      ...["x-auth-token", "content-type", "content-md5", "x-openstack-image-size"],
      ...["x-image-meta-store", "x-openstack-request-id", "authorization", "range"],
      ...["tus-resumable", "upload-length", "upload-offset", "upload-metadata", "upload-checksum"],
      "x-http-method-override",
    ],
    exposedHeaders: [
      ...["x-openstack-request-id", "location", "content-md5", "openstack-image-import-methods"],
      ...["openstack-image-store-ids", "tus-resumable", "upload-offset", "upload-length"],
      ...["upload-expires", "upload-metadata", "tus-version", "tus-extension", "tus-max-size"],
      "tus-checksum-algorithm",
    ],
    maxAge: 3600,
    // Clients of tus send OPTIONS without an origin, to learn the extensions of the server.
    strictPreflight: false,
  });
}

function serveHealth(app: Api, { health }: ApiContext): void {
  const summaries = {
    "/livez": "Show whether the API runs",
    "/readyz": "Show whether it takes requests and reaches what it needs",
  };
  for (const [url, summary] of Object.entries(summaries)) {
    app.get(url, openRoute(summary), (request, reply) => {
      reply.hijack();
      if (isLoopback(request.ip)) answerHealth(health, request.raw, reply.raw);
      else answerStatusOnly(health, url, reply.raw);
    });
  }
  app.get("/healthcheck", openRoute("Answer OK, as Glance's health check"), (_request, reply) =>
    reply.type("text/plain; charset=utf-8").send("OK"),
  );
}

/** Other hosts need not know the addresses of the service's own servers. */
function answerStatusOnly(
  health: ApiContext["health"],
  url: string,
  response: ServerResponse,
): void {
  const { status } = url === "/livez" ? health.liveness : health.readiness;
  const isWell = status === "live" || status === "ready";
  response.writeHead(isWell ? 200 : 503, { "content-type": "application/json" });
  response.end(`${JSON.stringify({ status })}\n`);
}

/** Answers with the failure. A failure of the service is also logged, with its cause. */
function refuse(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const { status, headers, document, level } = answerTo(error, request);
  if (level !== undefined) {
    request.log[level]({ err: error, request_id: request.id }, "A request failed");
  }
  if (reply.raw.headersSent) {
    // So the client sees that the answer is not complete.
    reply.raw.destroy();
    return;
  }
  if (!request.raw.complete) linger(request.raw, reply.raw);
  // No hook runs for a request that the framework refuses.
  if (UPLOADS.test(request.url)) reply.headers(TUS_ANSWER);
  void reply.code(status).headers(headers).type("application/json").send(document);
}

function choices(context: ApiContext, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  return reply
    .code(300)
    .type("application/json")
    .send(versionsDocument(rootUrl(context, request)));
}

/** A path with the methods that it has. */
interface SeenRoute {
  readonly pattern: RegExp;
  readonly methods: Set<string>;
}

/** Keeps the methods of every path, for 405. */
function followRoutes(app: Api): Map<string, SeenRoute> {
  const seen = new Map<string, SeenRoute>();
  app.addHook("onRoute", ({ url, method }) => {
    const route = seen.get(url) ?? {
      pattern: new RegExp(`^${url.replace(/:[^/]+/g, "[^/]+").replace("*", ".*")}$`),
      methods: new Set<string>(),
    };
    for (const each of [method].flat()) route.methods.add(each.toUpperCase());
    seen.set(url, route);
  });
  return seen;
}

function answerUnknown(
  context: ApiContext,
  seen: ReadonlyMap<string, SeenRoute>,
  request: FastifyRequest,
  reply: FastifyReply,
): void {
  const [path = "/"] = request.url.split("?", 1);
  const known = [...seen.values()].filter(({ pattern }) => pattern.test(path));
  const allowed = new Set(known.flatMap(({ methods }) => [...methods]));
  if (allowed.size > 0) {
    const allow = [...allowed].toSorted().join(", ");
    refuse(
      new HttpFailure(405, `${request.method} is not a method of ${path}; it has ${allow}.`, {
        headers: { allow },
      }),
      request,
      reply,
    );
    return;
  }
  if (/^\/v2\/tenants(?=\/|$)/.test(path)) {
    // Without a Keystone, the OpenStack client looks up a project here. After a 403 it uses the
    // given text as the id.
    refuse(new HttpFailure(403, "Projects cannot be looked up here."), request, reply);
    return;
  }
  if (path.startsWith("/v2/") || OWN.test(path)) {
    refuse(new HttpFailure(404, `There is no ${path} here.`), request, reply);
    return;
  }
  choices(context, request, reply);
}

/** Answers a request that is not HTTP, or whose headers are too long or too slow. */
function answerUnreadable(error: Error & { readonly code?: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
  const status =
    error.code === "HPE_HEADER_OVERFLOW"
      ? 431
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? 408
        : 400;
  const message =
    status === 431
      ? "The headers of the request are too long."
      : status === 408
        ? "The headers of the request did not come in time."
        : "The request is not valid HTTP.";
  const body = JSON.stringify(failureDocument(status, message));
  socket.end(
    `HTTP/1.1 ${String(status)} ${status === 431 ? "Request Header Fields Too Large" : status === 408 ? "Request Timeout" : "Bad Request"}\r\ncontent-type: application/json\r\ncontent-length: ${String(Buffer.byteLength(body))}\r\nconnection: close\r\n\r\n${body}`,
  );
}
