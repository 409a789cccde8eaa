import swagger from "@fastify/swagger";
import type { FastifyContextConfig, FastifyInstance, FastifySchema } from "fastify";
import { z } from "zod";
import { packageVersion } from "../config/package-version.ts";
import { imageAttributes } from "./image-attributes.ts";
import { changesBody } from "./image-changes.ts";
import { PATCH_TYPES } from "./json-patch.ts";
import { SCHEMAS } from "./schemas.ts";
import { startBody } from "./start-body.ts";

const image = z
  .object(imageAttributes)
  .partial()
  .meta({ description: "Every other member is a property of the image, a text." });

/** The bodies of requests, by name. */
const BODIES = {
  image,
  patch: z
    .array(
      z.object({
        op: z.enum(["add", "replace", "remove"]),
        path: z.string().meta({ description: "/ and the name of an attribute or property." }),
        value: z.unknown().optional(),
      }),
    )
    .meta({ description: `Sent as ${Object.keys(PATCH_TYPES).join(" or ")}.` }),
  import: z.object({
    method: z.object({
      name: z.enum(["glance-direct", "web-download", "copy-image", "glance-download"]),
      uri: z.string().optional(),
      glance_image_id: z.string().optional(),
      glance_region: z.string().optional(),
      glance_service_interface: z.string().optional(),
    }),
    stores: z.array(z.string()).optional(),
    all_stores: z.boolean().optional(),
    all_stores_must_succeed: z.boolean().optional(),
  }),
  "new member": z.object({ member: z.string() }),
  "member status": z.object({ status: z.enum(["pending", "accepted", "rejected"]) }),
  store: z.object({ store: z.string() }),
  start: startBody,
  changes: changesBody,
} as const;

/** The answers, by name: the schemas of `/v2/schemas`. */
type AnswerName = "image" | "images" | "member" | "members" | "task" | "tasks";

/** The facts of a route for the OpenAPI document. */
interface Description {
  readonly body?: keyof typeof BODIES;
  /** By status; undefined: a body without a schema, or none. */
  readonly answers: Readonly<Record<number, AnswerName | undefined>>;
  /** A body is refused. */
  readonly refusesBody?: boolean;
  /** True: the body is the bytes of an image; a text: with this content type instead of octets. */
  readonly takesBytes?: boolean | string;
}

/** The options of a route that the OpenAPI document describes. */
export function described(
  summary: string,
  { body, answers, refusesBody = false, takesBytes = false }: Description,
): { readonly schema: FastifySchema; readonly config: FastifyContextConfig } {
  const schema = {
    summary,
    ...(body === undefined ? {} : { body: plain(z.toJSONSchema(BODIES[body], { io: "input" })) }),
    ...(takesBytes !== false
      ? {
          consumes: [takesBytes === true ? "application/octet-stream" : takesBytes],
          body: { type: "string", format: "binary" },
        }
      : {}),
    response: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, name]) => [
          status,
          {
            description: "Done",
            ...(name === undefined ? {} : { type: "object", ...SCHEMAS[name] }),
          },
        ]),
      ),
      default: FAILURE,
    },
  };
  return { schema, config: { refusesBody, takesBytes: takesBytes !== false } };
}

/** The options of a route that needs no identification. */
export function openRoute(summary: string): {
  readonly schema: FastifySchema;
  readonly config: FastifyContextConfig;
} {
  return { schema: { summary }, config: { isOpen: true } };
}

const FAILURE = {
  description: "Refused, or failed",
  type: "object",
  properties: {
    error: {
      type: "object",
      required: ["code", "title", "message"],
      properties: {
        code: { type: "integer", description: "The HTTP status." },
        title: { type: "string" },
        message: { type: "string" },
        failure: { type: "string", description: "A code of docs/failures.md." },
        hint: { type: "string", description: "The way out." },
        step: { type: "string", description: "The step of the import that failed." },
        store: { type: "string", description: "The store that the step was about." },
      },
    },
  },
};

function plain(schema: object): object {
  return Object.fromEntries(Object.entries(schema).filter(([name]) => name !== "$schema"));
}

/** Collects the routes that are registered after this into `/openapi.json`. */
export async function openApi(app: FastifyInstance): Promise<void> {
  // The schemas are documentation. Each handler checks its body, and refuses in Glance's words.
  app.setValidatorCompiler(() => () => true);
  app.setSerializerCompiler(() => (document) => JSON.stringify(document));
  await app.register(swagger, {
    exposeHeadRoutes: true,
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Image Import",
        version: packageVersion(),
        description:
          "The Image API v2 as clients of OpenStack Glance speak it, and the steering of imports.",
      },
      components: {
        securitySchemes: {
          token: { type: "apiKey", in: "header", name: "X-Auth-Token" },
          basic: { type: "http", scheme: "basic" },
        },
      },
      security: [{ token: [] }, { basic: [] }],
    },
  });
  app.get("/openapi.json", openRoute("Show this description of the API"), () => app.swagger());
}
