import { z } from "zod";
import type { CreateImage } from "../client/images.ts";
import { CONTAINER_FORMATS, DISK_FORMATS } from "../domain/disk-format.ts";
import { VISIBILITIES } from "../domain/visibility.ts";
import { badRequest, forbidden, HttpFailure } from "./http-failure.ts";

// The names that a client may set, and Glance's three groups of names that it may not.

/** The largest number of properties, of tags and of members of an image. Glance's default. */
export const MOST_PROPERTIES = 128;

const LONGEST = 255;
const MOST_INTEGER = 2 ** 31 - 1;

const whole = z.int().min(0).max(MOST_INTEGER);
const tag = z.string().max(LONGEST);

/** The attributes that clients set, by their names. */
export const imageAttributes = {
  name: z.string().max(LONGEST).nullable().meta({ description: "Descriptive name." }),
  owner: z.string().max(LONGEST).nullable().meta({ description: "Project that owns the image." }),
  visibility: z.enum(VISIBILITIES).meta({ description: "Scope of image accessibility." }),
  disk_format: z.enum(DISK_FORMATS).nullable().meta({ description: "Format of the disk." }),
  container_format: z
    .enum(CONTAINER_FORMATS)
    .nullable()
    .meta({ description: "Format of the container." }),
  protected: z.boolean().meta({ description: "If true, the image cannot be deleted." }),
  os_hidden: z.boolean().meta({ description: "If true, the image is not listed by default." }),
  min_disk: whole.meta({ description: "Disk space that the image needs, in GiB." }),
  min_ram: whole.meta({ description: "Memory that the image needs, in MiB." }),
  tags: z.array(tag).meta({ description: "Tags." }),
} as const;

/** The name of an attribute that clients set. */
export type AttributeName = keyof typeof imageAttributes;

/** The values of attributes and properties that a client sends. */
export interface GivenImage {
  readonly attributes: {
    readonly [Name in AttributeName]?: z.output<(typeof imageAttributes)[Name]>;
  };
  readonly properties: Readonly<Record<string, string>>;
}

const READ_ONLY = [
  ...["created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url"],
  ...["self", "file", "schema", "stores", "locations"],
];
// Glance accepts and ignores them in a new image; no request may change them.
const DROPPED = ["os_hash_algo", "os_hash_value"];
const RESERVED = ["location", "deleted", "deleted_at"];

/** True if this is an attribute that clients set. */
export function isAttribute(name: string): name is AttributeName {
  return Object.hasOwn(imageAttributes, name);
}

/**
 * Refuses a name that clients do not set.
 *
 * @param isNew - the image is created now, so that its id may be chosen
 * @throws HttpFailure 403
 */
export function requireSettable(name: string, isNew: boolean): void {
  if (RESERVED.includes(name) || name.startsWith("os_glance")) {
    throw forbidden(`Attribute '${name}' is reserved.`);
  }
  const isFixed = READ_ONLY.includes(name) || (!isNew && (name === "id" || DROPPED.includes(name)));
  if (isFixed) throw forbidden(`Attribute '${name}' is read-only.`);
}

/**
 * The value of an attribute that a client sends.
 *
 * @throws HttpFailure 400 naming the attribute and the rule
 */
export function readAttribute<Name extends AttributeName>(
  name: Name,
  value: unknown,
): z.output<(typeof imageAttributes)[Name]> {
  const parsed = imageAttributes[name].safeParse(value);
  if (parsed.success) return parsed.data as z.output<(typeof imageAttributes)[Name]>;
  const rule = parsed.error.issues.map(({ message }) => message).join("; ");
  throw badRequest(`Provided object does not match schema 'image': '${name}': ${rule}`);
}

/**
 * The value of a property that a client sends.
 *
 * @throws HttpFailure 400
 */
export function readProperty(name: string, value: unknown): string {
  if (Array.from(name).length > LONGEST) {
    throw badRequest("Custom property should not be greater than 255 characters.");
  }
  if (typeof value === "string") return value;
  throw badRequest(
    `Provided object does not match schema 'image': the property '${name}' must be a text, not ${kindOf(value)}`,
  );
}

/** The kind of a value. A message does not quote the value itself, which may be large. */
function kindOf(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "a list" : `a ${typeof value}`;
}

/**
 * Refuses more properties, tags or members than an image may have.
 *
 * @throws HttpFailure 413
 */
export function requireFew(what: "properties" | "tags" | "members", number: number): void {
  if (number <= MOST_PROPERTIES) return;
  throw new HttpFailure(
    413,
    `The limit has been exceeded on the number of allowed image ${what}. Attempted: ${String(number)}, Maximum: ${String(MOST_PROPERTIES)}`,
  );
}

/**
 * The image that a client wants to create.
 *
 * @throws HttpFailure 400, 403, 413
 */
export function readNewImage(body: unknown): CreateImage {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw badRequest("Unexpected body type. Expected an object.");
  }
  const given: Record<string, unknown> = {};
  const properties: [string, string][] = [];
  for (const [name, value] of Object.entries(body)) {
    requireSettable(name, true);
    if (DROPPED.includes(name)) continue;
    if (name === "id") given[name] = readId(value);
    else if (isAttribute(name)) given[name] = readAttribute(name, value);
    else properties.push([name, readProperty(name, value)]);
  }
  requireFew("properties", properties.length);
  const { tags = [], ...fields } = given as GivenImage["attributes"] & { readonly id?: string };
  const differentTags = [...new Set(tags)];
  requireFew("tags", differentTags.length);
  return {
    id: fields.id,
    name: fields.name ?? undefined,
    owner: fields.owner ?? undefined,
    visibility: fields.visibility,
    diskFormat: fields.disk_format ?? undefined,
    containerFormat: fields.container_format ?? undefined,
    protected: fields.protected,
    osHidden: fields.os_hidden,
    minDisk: fields.min_disk,
    minRam: fields.min_ram,
    tags: differentTags,
    properties: Object.fromEntries(properties),
  };
}

function readId(value: unknown): string {
  const text = typeof value === "string" ? value.toLowerCase() : "";
  if (/^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/.test(text)) return text;
  throw badRequest(
    `Provided object does not match schema 'image': 'id' must be a UUID, not ${JSON.stringify(value)}`,
  );
}
