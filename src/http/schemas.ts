import { z } from "zod";
import { MEMBER_STATUSES } from "../domain/visibility.ts";
import { IMAGE_STATUSES } from "../domain/image-status.ts";
import { TASK_STATUSES } from "../domain/task-status.ts";
import { imageAttributes } from "./image-attributes.ts";

// The schemas of `/v2/schemas`, from which some clients build their models. The OpenAPI document
// has the same attributes.

type JsonSchema = Readonly<Record<string, unknown>>;

const UUID_PATTERN =
  "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$";

function text(description: string, more: JsonSchema = {}): JsonSchema {
  return { type: "string", description, ...more };
}

function textOrNull(description: string, more: JsonSchema = {}): JsonSchema {
  return { type: ["null", "string"], description, ...more };
}

/** An attribute that clients set, as a schema in the words of Glance. */
function settable(name: keyof typeof imageAttributes): JsonSchema {
  return { ...flattened(without(z.toJSONSchema(imageAttributes[name]), "$schema")), is_base: true };
}

/** Writes "a value or null" as `{"type": ["null", "string"]}`, the form that old clients know. */
function flattened(schema: JsonSchema): JsonSchema {
  const choices = schema["anyOf"];
  if (!Array.isArray(choices)) return schema;
  const value = (choices as JsonSchema[]).find(({ type }) => type !== "null") ?? {};
  const words = value["enum"];
  return {
    ...without(schema, "anyOf"),
    ...value,
    type: ["null", value["type"] ?? "string"],
    ...(Array.isArray(words) ? { enum: [null, ...(words as unknown[])] } : {}),
  };
}

function without(schema: object, name: string): JsonSchema {
  return Object.fromEntries(Object.entries(schema).filter(([each]) => each !== name));
}

const readOnly = { readOnly: true, is_base: true };

const imageProperties: JsonSchema = {
  id: text("An identifier for the image", { pattern: UUID_PATTERN, is_base: true }),
  ...Object.fromEntries(
    (Object.keys(imageAttributes) as (keyof typeof imageAttributes)[]).map((name) => [
      name,
      settable(name),
    ]),
  ),
  status: text("Status of the image", { ...readOnly, enum: [...IMAGE_STATUSES, "killed"] }),
  checksum: textOrNull("md5 hash of image contents.", { ...readOnly, maxLength: 32 }),
  os_hash_algo: textOrNull("Algorithm to calculate the os_hash_value", {
    ...readOnly,
    maxLength: 64,
  }),
  os_hash_value: textOrNull(
    "Hexdigest of the image contents using the algorithm specified by the os_hash_algo",
    { ...readOnly, maxLength: 128 },
  ),
  size: { type: ["null", "integer"], description: "Size of image file in bytes", ...readOnly },
  virtual_size: {
    type: ["null", "integer"],
    description: "Virtual size of image in bytes",
    ...readOnly,
  },
  created_at: text("Date and time of image registration", readOnly),
  updated_at: text("Date and time of the last image modification", readOnly),
  stores: text("Store in which image data resides.", readOnly),
  self: text("An image self url", readOnly),
  file: text("An image file url", readOnly),
  schema: text("An image schema url", readOnly),
};

const imageLinks = [
  { rel: "self", href: "{self}" },
  { rel: "enclosure", href: "{file}" },
  { rel: "describedby", href: "{schema}" },
];

const image: JsonSchema = {
  name: "image",
  properties: imageProperties,
  additionalProperties: { type: "string" },
  links: imageLinks,
};

const member: JsonSchema = {
  name: "member",
  properties: {
    member_id: text("An identifier for the image member (tenantId)"),
    image_id: text("An identifier for the image", { pattern: UUID_PATTERN }),
    created_at: text("Date and time of image member creation"),
    updated_at: text("Date and time of last modification of image member"),
    status: text("The status of this image member", { enum: MEMBER_STATUSES }),
    schema: text("The schema of a member", { readOnly: true }),
  },
};

const taskProperties: JsonSchema = {
  id: text("An identifier for the task", { pattern: UUID_PATTERN }),
  type: text("The type of task represented by this content", {
    enum: ["import", "api_image_import"],
  }),
  status: text("The current status of this task", { enum: TASK_STATUSES }),
  input: { type: ["null", "object"], description: "The parameters required by task" },
  result: { type: ["null", "object"], description: "The result of current task" },
  owner: textOrNull("An identifier for the owner of this task"),
  message: textOrNull("Human-readable informative message"),
  image_id: textOrNull("Image associated with the task"),
  request_id: textOrNull("Human-readable informative request-id"),
  user_id: textOrNull("User associated with the task"),
  expires_at: textOrNull("Datetime when this resource would be subject to removal"),
  created_at: text("Datetime when this resource was created"),
  updated_at: text("Datetime when this resource was updated"),
  self: text("A task self url", { readOnly: true }),
  schema: text("A task schema url", { readOnly: true }),
};

const task: JsonSchema = { name: "task", properties: taskProperties };

function listOf(name: string, item: JsonSchema, isPaged: boolean): JsonSchema {
  return {
    name,
    properties: {
      [name]: { type: "array", items: item },
      ...(isPaged ? { first: { type: "string" }, next: { type: "string" } } : {}),
      schema: { type: "string" },
    },
    links: [
      ...(isPaged
        ? [
            { rel: "first", href: "{first}" },
            { rel: "next", href: "{next}" },
          ]
        : []),
      { rel: "describedby", href: "{schema}" },
    ],
  };
}

/** The schemas of images, members and tasks, by the end of their path. */
export const SCHEMAS: Readonly<Record<string, JsonSchema>> = {
  image,
  images: listOf("images", image, true),
  member,
  members: listOf("members", member, false),
  task,
  tasks: listOf("tasks", task, true),
};
