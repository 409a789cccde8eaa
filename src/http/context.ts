import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ImageImportClient } from "../client/image-import-client.ts";
import type { ImageView, SeenImage as Seen } from "../client/image-view.ts";
import type { WriteGuard } from "../client/write-guard.ts";
import type { ApiSettings } from "../config/api-settings.ts";
import type { Config } from "../config/config.ts";
import { isUuid } from "../domain/import-request.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Health } from "../health/health.ts";
import { isAdmin, type Caller } from "./caller.ts";
import { badRequest, forbidden, HttpFailure, notFound } from "./http-failure.ts";
import type { Identity } from "./identity.ts";
import { plainDocument } from "./tenant-words.ts";
import {
  maySee,
  mayDo,
  mayUse,
  type ImageAction,
  type Judged,
  type ServiceAction,
} from "./policy.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Set before the handler of a route runs, except for a route with `isOpen`. */
    caller: Caller;
  }
  interface FastifyContextConfig {
    /** Every caller may use the route; a token is neither needed nor checked. */
    readonly isOpen?: boolean;
    /** The handler reads the body itself, as it comes. */
    readonly takesBytes?: boolean;
    /** A body is refused. */
    readonly refusesBody?: boolean;
  }
}

/** The tools and settings of the routes. */
export interface ApiContext {
  readonly client: ImageImportClient;
  readonly config: Config;
  readonly settings: ApiSettings;
  readonly identity: Identity;
  readonly health: Health;
  /** Aborted when running uploads must end. */
  readonly stopping: AbortSignal;
}

/** A group of routes. */
export type Routes = (app: FastifyInstance, context: ApiContext) => void;

/** An image that the caller may see, and the judgement of the policy. */
export interface SeenImage {
  readonly image: ImageView;
  readonly judged: Judged;
  /** Asks the policy again about the row that a write changes: every write takes it. */
  readonly guard: WriteGuard;
}

/**
 * Reads the image of a request, and asks the policy. An image that the caller may not see gets the
 * answer of an absent one.
 *
 * @param rule - a further check of the image, repeated at each write. It throws if it fails
 * @throws HttpFailure 404, 403; what the rule throws
 */
export async function requireImage(
  context: ApiContext,
  request: FastifyRequest,
  imageId: string,
  action: ImageAction,
  rule?: (image: ImageView) => void,
): Promise<SeenImage> {
  const { images } = context.client;
  const { caller } = request;
  const { project } = caller;
  const id = imageId.toLowerCase();
  // Some clients send a name here, and list the images by name after a 404.
  if (!isUuid(id)) throw noImage(imageId);
  const judge = (seen: Seen | undefined): Judged => {
    if (seen === undefined || seen.image.status === "pending_delete") throw noImage(imageId);
    const { image, membership } = seen;
    const judged = { owner: image.owner, visibility: image.visibility, membership };
    if (!maySee(caller, judged)) throw noImage(imageId);
    requireDoing(caller, action, judged);
    rule?.(image);
    return judged;
  };
  const seen = await images.showFor(id, project).catch(undefinedIfAbsent);
  const judged = judge(seen);
  // `judge` throws for an absent image.
  const { image } = seen as Seen;
  return { image, judged, guard: { project, judge } };
}

/** True if the caller may read the imports and tasks of an image; false also if it is deleted. */
export async function mayReadTasks(
  context: ApiContext,
  request: FastifyRequest,
  imageId: string,
): Promise<boolean> {
  try {
    await requireImage(context, request, imageId, "get_task");
    return true;
  } catch (error) {
    if (error instanceof HttpFailure) return false;
    throw error;
  }
}

/** An image that is absent and one that is hidden have the same answer. */
function noImage(imageId: string): HttpFailure {
  return notFound(`No image found with ID ${imageId}`);
}

function undefinedIfAbsent(error: unknown): undefined {
  if (error instanceof ImportError && error.code === "ImageNotFound") return undefined;
  throw error;
}

/**
 * The owner that the image must still have when the worker claims it, which is after the policy was
 * asked. Undefined: the caller may import the image of any owner.
 */
export function expectedOwner(caller: Caller, { owner }: ImageView): string | null | undefined {
  return isAdmin(caller) ? undefined : owner;
}

/** A document about an import, as the caller may read it. */
export function inWordsFor<Document>({ caller }: FastifyRequest, document: Document): Document {
  return isAdmin(caller) ? document : plainDocument(document);
}

/** @throws HttpFailure 403 */
export function requireDoing(caller: Caller, action: ImageAction, judged: Judged): void {
  if (!mayDo(caller, action, judged)) {
    throw forbidden(`You are not authorized to complete ${action} action.`);
  }
}

/** @throws HttpFailure 403 */
export function requireUse({ caller }: FastifyRequest, action: ServiceAction): void {
  if (!mayUse(caller, action)) {
    throw forbidden(`You are not authorized to complete ${action} action.`);
  }
}

/**
 * The failure of an import that was not started because this server stops. Any other failure is
 * returned unchanged.
 */
export function atTheEnd({ stopping }: ApiContext, imageId: string, error: unknown): unknown {
  const isInterrupted = error instanceof ImportError && error.code === "Interrupted";
  if (!stopping.aborted || !isInterrupted) return error;
  return serverEnds(
    `The import of image ${imageId} was not started: the server is stopping.`,
    error,
  );
}

/** The refusal of a request because this server stops. */
export function serverEnds(message: string, cause?: unknown): HttpFailure {
  return new HttpFailure(503, message, {
    cause,
    hint: "Send the request again, in a moment or to another server.",
    headers: { "retry-after": "5" },
  });
}

/**
 * Waits for work of the workers, but not longer than this server runs. The work continues without
 * the wait.
 *
 * @throws HttpFailure 503 if this server stops first
 */
export async function untilTheEnd<T>({ stopping }: ApiContext, work: Promise<T>): Promise<T> {
  let leave = (): void => undefined;
  const ended = new Promise<never>((_, reject) => {
    leave = () => {
      reject(serverEnds("The server stops before the result is known."));
    };
  });
  stopping.addEventListener("abort", leave, { once: true });
  if (stopping.aborted) leave();
  try {
    return await Promise.race([work, ended]);
  } finally {
    stopping.removeEventListener("abort", leave);
  }
}

/** The parameters of the query, repeated ones included. @throws HttpFailure 400 */
export function queryOf(request: FastifyRequest): URLSearchParams {
  const question = request.raw.url?.indexOf("?") ?? -1;
  const query = new URLSearchParams(question < 0 ? "" : request.raw.url?.slice(question + 1));
  for (const [name, value] of query) {
    if (name.includes("\0")) throw badRequest("The name of a parameter has a NUL character.");
    if (value.includes("\0")) throw badRequest(`The value of ${name} has a NUL character.`);
  }
  return query;
}

/** The address of this server as the caller reaches it, without a slash at the end. */
export function rootUrl({ settings }: ApiContext, request: FastifyRequest): string {
  return settings.publicUrl ?? `${request.protocol}://${request.host}`;
}

/** Answers with 204, without a body. */
export function noContent(reply: FastifyReply): FastifyReply {
  return reply.code(204).send();
}
