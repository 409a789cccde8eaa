import type { ImageView } from "../client/image-view.ts";
import type { ImageChanges } from "../domain/image-fields.ts";
import { badRequest, conflict, forbidden, type HttpFailure } from "./http-failure.ts";
import {
  isAttribute,
  readAttribute,
  readProperty,
  requireFew,
  requireSettable,
  type AttributeName,
  type GivenImage,
} from "./image-attributes.ts";

/** The two flavours of Glance's patches, by their media types. */
export const PATCH_TYPES = {
  "application/openstack-images-v2.0-json-patch": "v2.0",
  "application/openstack-images-v2.1-json-patch": "v2.1",
} as const;

/** A flavour of patches. */
export type PatchFlavour = (typeof PATCH_TYPES)[keyof typeof PATCH_TYPES];

/** One change of one attribute or property. */
export interface Operation {
  readonly op: "add" | "replace" | "remove";
  /** The name after the slash of the pointer. */
  readonly name: string;
  readonly value: unknown;
}

const OPERATIONS = ["add", "replace", "remove"] as const;
const POINTER_RULE = "a path is / and one name";

/**
 * Reads the operations of a patch, without looking at an image.
 *
 * @throws HttpFailure 400 naming the operation; 403 for a name that clients do not set
 */
export function readOperations(body: unknown, flavour: PatchFlavour): Operation[] {
  if (!Array.isArray(body)) {
    throw badRequest("Request body must be a JSON array of operation objects.");
  }
  return body.map((given: unknown) => {
    if (typeof given !== "object" || given === null || Array.isArray(given)) {
      throw badRequest("Operations must be JSON objects.");
    }
    const operation = given as Readonly<Record<string, unknown>>;
    const { op, path } = flavour === "v2.0" ? kindOfDraft4(operation) : kindOf(operation);
    const name = nameAt(path);
    requireSettable(name, false);
    if (op !== "remove" && !Object.hasOwn(operation, "value")) {
      throw badRequest(`Operation "${op}" requires a member named "value".`);
    }
    return { op, name, value: operation["value"] };
  });
}

interface Kind {
  readonly op: Operation["op"];
  readonly path: unknown;
}

function kindOf(operation: Readonly<Record<string, unknown>>): Kind {
  const { op, path } = operation;
  if (op === undefined) throw badRequest('Unable to find "op" in JSON Schema change.');
  const known = OPERATIONS.find((each) => each === op);
  if (known === undefined) {
    throw badRequest(`Invalid operation: ${quoted(op)}. It must be one of add, replace, remove.`);
  }
  if (path === undefined) throw badRequest('Unable to find "path" in JSON Schema change.');
  return { op: known, path };
}

/** The name of the member is the operation: `{"add": "/x", "value": 1}`. */
function kindOfDraft4(operation: Readonly<Record<string, unknown>>): Kind {
  const found = OPERATIONS.filter((op) => Object.hasOwn(operation, op));
  const [op] = found;
  if (op === undefined || found.length > 1) {
    throw badRequest(
      `Operation objects must contain exactly one member named "add", "remove" or "replace".`,
    );
  }
  return { op, path: operation[op] };
}

function nameAt(path: unknown): string {
  const invalid = (): HttpFailure =>
    badRequest(`Invalid JSON pointer for this resource: ${quoted(path)}: ${POINTER_RULE}`);
  if (typeof path !== "string" || !path.startsWith("/")) throw invalid();
  // Glance takes `//a` for `/a`.
  const token = path.replace(/^\/+/, "");
  if (token === "" || token.includes("/") || /~(?![01])/.test(token)) throw invalid();
  return token.replaceAll("~1", "/").replaceAll("~0", "~");
}

function quoted(path: unknown): string {
  return typeof path === "string" ? `'${path}'` : `a ${typeof path}`;
}

/**
 * The changes that these operations make to an image, one after the other. One operation that
 * cannot be made refuses all of them.
 *
 * @throws HttpFailure 400, 403, 409, 413
 */
export function changesOf(
  image: ImageView,
  operations: readonly Operation[],
  flavour: PatchFlavour,
): ImageChanges {
  const attributes: Partial<Record<AttributeName, unknown>> = {};
  const properties = new Map(Object.entries(image.properties));
  for (const operation of operations) {
    const { name } = operation;
    if (isAttribute(name))
      attributes[name] = attributeAfter(image, { ...operation, name }, flavour);
    else changeProperty(properties, operation, flavour);
  }
  return changesFrom(image, attributes as GivenImage["attributes"], properties);
}

function attributeAfter(
  image: ImageView,
  { op, name, value }: Operation & { readonly name: AttributeName },
  flavour: PatchFlavour,
): unknown {
  if (op === "remove") throw forbidden(`Property ${name} may not be removed.`);
  if (op === "add" && flavour === "v2.0") throw conflict(`Property ${name} already present.`);
  const isFormat = name === "disk_format" || name === "container_format";
  if (isFormat && image.status !== "queued" && image.status !== "uploading") {
    throw forbidden(`Attribute ${name} can be only replaced for a queued image.`);
  }
  return readAttribute(name, value);
}

function changeProperty(
  properties: Map<string, string>,
  { op, name, value }: Operation,
  flavour: PatchFlavour,
): void {
  const isThere = properties.has(name);
  if (op !== "add" && !isThere) throw conflict(`Property ${name} does not exist.`);
  if (op === "add" && isThere && flavour === "v2.0") {
    throw conflict(`Property ${name} already present.`);
  }
  if (op === "remove") properties.delete(name);
  else properties.set(name, readProperty(name, value));
}

function changesFrom(
  image: ImageView,
  attributes: GivenImage["attributes"],
  properties: ReadonlyMap<string, string>,
): ImageChanges {
  requireFew("properties", properties.size);
  const { tags } = attributes;
  const differentTags = tags === undefined ? undefined : [...new Set(tags)];
  requireFew("tags", differentTags?.length ?? 0);
  return {
    name: attributes.name,
    owner: attributes.owner,
    visibility: attributes.visibility,
    diskFormat: attributes.disk_format,
    containerFormat: attributes.container_format,
    protected: attributes.protected,
    osHidden: attributes.os_hidden,
    minDisk: attributes.min_disk,
    minRam: attributes.min_ram,
    tags: differentTags,
    setProperties: Object.fromEntries(
      [...properties].filter(([name, value]) => image.properties[name] !== value),
    ),
    removeProperties: Object.keys(image.properties).filter((name) => !properties.has(name)),
  };
}
