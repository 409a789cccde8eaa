// The schemas of Glance's metadata definitions. This service has no such definitions, but some
// clients and test suites read the schemas.

type JsonSchema = Readonly<Record<string, unknown>>;

const NAME = { type: "string", maxLength: 80 };
const TIMES: JsonSchema = {
  created_at: { type: "string", readOnly: true, format: "date-time" },
  updated_at: { type: "string", readOnly: true, format: "date-time" },
};
const LINKS: JsonSchema = {
  self: { type: "string", readOnly: true },
  schema: { type: "string", readOnly: true },
};

const property: JsonSchema = {
  name: "property",
  type: "object",
  required: ["name", "title", "type"],
  properties: {
    name: NAME,
    title: { type: "string" },
    description: { type: "string" },
    operators: { type: "array", items: { type: "string" } },
    type: {
      type: "string",
      enum: ["array", "boolean", "integer", "number", "object", "string", null],
    },
    default: {},
    enum: { type: "array" },
    items: { type: "object" },
    minimum: { type: "number" },
    maximum: { type: "number" },
    minItems: { type: "integer", minimum: 0 },
    maxItems: { type: "integer", minimum: 0 },
    minLength: { type: "integer", minimum: 0 },
    maxLength: { type: "integer", minimum: 0 },
    pattern: { type: "string", format: "regex" },
    readonly: { type: "boolean" },
    uniqueItems: { type: "boolean", default: false },
    additionalItems: { type: "boolean" },
  },
  additionalProperties: false,
};

const object: JsonSchema = {
  name: "object",
  required: ["name"],
  properties: {
    name: { type: "string", maxLength: 255 },
    description: { type: "string" },
    required: { type: "array", items: { type: "string" } },
    properties: { type: "object", additionalProperties: property },
    ...TIMES,
    ...LINKS,
  },
  additionalProperties: false,
};

const tag: JsonSchema = {
  name: "tag",
  required: ["name"],
  properties: { name: NAME, ...TIMES },
  additionalProperties: false,
};

const resourceType: JsonSchema = {
  name: "resource_type_association",
  required: ["name"],
  properties: {
    name: NAME,
    prefix: { type: "string", maxLength: 80 },
    properties_target: { type: "string", maxLength: 80 },
    ...TIMES,
  },
  additionalProperties: false,
};

const namespace: JsonSchema = {
  name: "namespace",
  required: ["namespace"],
  properties: {
    namespace: NAME,
    display_name: { type: "string", maxLength: 80 },
    description: { type: "string", maxLength: 500 },
    visibility: { type: "string", enum: ["public", "private"] },
    protected: { type: "boolean" },
    owner: { type: "string", maxLength: 255 },
    resource_type_associations: { type: "array", items: resourceType },
    properties: { type: "object", additionalProperties: property },
    objects: { type: "array", items: object },
    tags: { type: "array", items: tag },
    ...TIMES,
    ...LINKS,
  },
  additionalProperties: false,
};

function listOf(plural: string, item: JsonSchema, isMap = false): JsonSchema {
  return {
    name: plural,
    properties: {
      [plural]: isMap
        ? { type: "object", additionalProperties: item }
        : { type: "array", items: item },
      first: { type: "string" },
      next: { type: "string" },
      schema: { type: "string" },
    },
    links: [
      { rel: "first", href: "{first}" },
      { rel: "next", href: "{next}" },
      { rel: "describedby", href: "{schema}" },
    ],
  };
}

/** The schemas of metadata definitions, by the end of their path. */
export const METADEF_SCHEMAS: Readonly<Record<string, JsonSchema>> = {
  namespace,
  namespaces: listOf("namespaces", namespace),
  object,
  objects: listOf("objects", object),
  property,
  properties: listOf("properties", property, true),
  tag,
  tags: listOf("tags", tag),
  resource_type: resourceType,
  resource_types: listOf("resource_type_associations", resourceType),
};
