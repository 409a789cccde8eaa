import {
  isContainerFormat,
  isDiskFormat,
  type ContainerFormat,
  type DiskFormat,
} from "./disk-format.ts";
import { parseChecksum } from "./given-checksum.ts";
import { ImportError } from "./import-failure.ts";
import { isStorable } from "./storable-text.ts";

/** The import methods that exist. Glance's words. */
export const IMPORT_METHODS = ["glance-direct", "web-download", "copy-image"] as const;

/** The source of the bytes: staging, a URL, or a store that already has the image. */
export type ImportMethod = (typeof IMPORT_METHODS)[number];

/** The facts that an image takes over from the image of another service, its origin. */
export interface TakenOver {
  readonly disk_format: DiskFormat;
  readonly container_format: ContainerFormat;
  /** Added to those of the image, and replacing those of the same name. */
  readonly properties: Readonly<Record<string, string>>;
}

/** The request of a user: the only argument of the workflow `importImage`. Names are Glance's. */
export interface ImportRequest {
  /** The image, by its id in the catalogue. */
  readonly image_id: string;
  /** Default: `glance-direct`, bytes in staging. */
  readonly method?: ImportMethod;
  /**
   * `glance-direct`: the place of the staged bytes, `file:///…` below the staging root; default
   * `<node staging uri>/<image id>`. `web-download`: the `http` or `https` URL, sealed if it has a
   * query.
   */
  readonly uri?: string;
  /** The stores to fill. Default: the configured default store. */
  readonly stores?: readonly string[];
  /**
   * True fills every store that accepts images, in the order of the configuration; `copy-image`
   * skips those that have the image. Not together with `stores`. Default: false.
   */
  readonly all_stores?: boolean;
  /**
   * True if the first permanent failure of a store fails the import. Otherwise the image becomes
   * active in the stores that have it, if there is at least one. Default: true.
   */
  readonly all_stores_must_succeed?: boolean;
  /**
   * True if an image without a disk format gets the format of its bytes. A declared format stays.
   * Default: false, an image without a disk format is refused.
   */
  readonly detect_format?: boolean;
  /** The expected digest: `sha256:<hex>`, `sha512:<hex>` or `md5:<hex>`. Default: unknown. */
  readonly checksum?: string;
  /** The expected number of bytes. Default: unknown. */
  readonly size?: number;
  /**
   * `web-download` of an image of another service: the facts that the image takes over from it.
   * They take the place of its own formats, unless the import fails. Default: none.
   */
  readonly takes_over?: TakenOver;
  /**
   * `web-download`: the reason for which there is nothing to download, found before the start. The
   * import is accepted, and fails with it. Default: none.
   */
  readonly source_failure?: string;
  /** Roles of the caller; some transforms depend on them. Default: none. */
  readonly roles?: readonly string[];
  /** The user who requests it, for the record of the task. Default: unknown. */
  readonly user_id?: string;
  /**
   * The owner that the image must have; null: none. The import is refused if the image has another
   * owner by then. Default: any.
   */
  readonly expected_owner?: string | null;
  /**
   * True if the import follows an upload automatically, as with Glance's PUT of `file`. Default:
   * false.
   */
  readonly direct_upload?: boolean;
  /**
   * The body of the HTTP request that asked for it, for the record of the task: at most 64 KiB of
   * JSON, without secrets. Default: none.
   */
  readonly api_request?: Readonly<Record<string, unknown>>;
  /**
   * Names of the transforms to run, in their order; empty: none. Each must be one that the worker
   * has configured. Not for `copy-image`. Default: all that are configured.
   */
  readonly transforms?: readonly string[];
  /**
   * Distinguishes a client's retry from another client's request. Default: none, as for `temporal
   * workflow start`.
   */
  readonly request_id?: string;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** True if this text is a UUID in the spelling of this project: lower case, with hyphens. */
export function isUuid(text: unknown): boolean {
  return typeof text === "string" && UUID.test(text);
}

/**
 * Reads the input of an import, which any client may have sent.
 *
 * @throws ImportError `BadRequest` naming all mistakes
 */
export function parseImportRequest(input: unknown): ImportRequest {
  if (typeof input !== "object" || input === null || Array.isArray(input)) {
    throw new ImportError(
      "BadRequest",
      'An import request must be one object such as {"image_id": "<uuid>"}',
    );
  }
  const fields: Record<string, unknown> = { ...input };
  const mistakes = [
    ...unknownFields(fields),
    ...Object.entries(RULES).flatMap(([field, { rule, isRight }]) =>
      isRight(fields[field]) ? [] : [mistake(field, fields[field], rule)],
    ),
    ...mistakesTogether(fields),
  ];
  if (mistakes.length > 0) {
    throw new ImportError("BadRequest", `Cannot import: ${mistakes.join("; ")}`);
  }
  // Every field was checked above.
  return fields as unknown as ImportRequest;
}

interface Rule {
  /** The rule in words for users, after "must be". */
  readonly rule: string;
  readonly isRight: (value: unknown) => boolean;
}

function optional(rule: string, isRight: (value: unknown) => boolean): Rule {
  return { rule, isRight: (value) => value === undefined || isRight(value) };
}

const FLAG = optional("true or false", (value) => typeof value === "boolean");

const RULES: Readonly<Record<keyof ImportRequest, Rule>> = {
  image_id: { rule: "a UUID", isRight: isUuid },
  method: optional(IMPORT_METHODS.join(" or "), (value) =>
    (IMPORT_METHODS as readonly unknown[]).includes(value),
  ),
  uri: optional("a non-empty string", isText),
  stores: optional("a list of store names, not empty, none twice", (value) => {
    return isListOfNames(value) && value.length > 0;
  }),
  detect_format: FLAG,
  all_stores: FLAG,
  all_stores_must_succeed: FLAG,
  checksum: optional(
    "sha256:, sha512: or md5: with its number of hex digits",
    (value) => typeof value === "string" && parseChecksum(value) !== undefined,
  ),
  size: optional(
    "a whole number of bytes",
    (value) => Number.isSafeInteger(value) && Number(value) >= 0,
  ),
  takes_over: optional(
    "an object with disk_format, container_format and properties, at most 64 KiB of JSON",
    isTakenOver,
  ),
  source_failure: optional("a non-empty string", isText),
  roles: optional("a list of non-empty strings", isTextList),
  transforms: optional("a list of names of transforms, none twice", isListOfNames),
  user_id: optional("a non-empty string", isText),
  expected_owner: optional(
    "a non-empty string or null",
    (value) => value === null || isText(value),
  ),
  direct_upload: FLAG,
  api_request: optional("an object of at most 64 KiB of JSON, without NUL", isSmallObject),
  request_id: optional("a non-empty string", isText),
};

function unknownFields(fields: Record<string, unknown>): string[] {
  const known = Object.keys(RULES);
  return Object.keys(fields)
    .filter((name) => !known.includes(name))
    .map((name) => `"${name}" is not a field of an import (${known.join(", ")})`);
}

function mistake(field: string, value: unknown, rule: string): string {
  // Not quoted: it may be as long as the body of a request, and may contain a secret.
  if (field === "api_request") return `${field} must be ${rule}`;
  return `${field} must be ${rule}, not ${value === undefined ? "absent" : JSON.stringify(value)}`;
}

/** Mistakes of fields that are valid alone and invalid together. */
function mistakesTogether(fields: Record<string, unknown>): string[] {
  const { method, uri, all_stores: allStores, stores, transforms } = fields;
  const { takes_over: taken, source_failure: failure } = fields;
  return [
    ...(allStores === true && stores !== undefined
      ? ["stores must be left out if all_stores is true"]
      : []),
    ...(method === "web-download" && uri === undefined && failure === undefined
      ? ["uri must be given for web-download, an http or https URL"]
      : []),
    ...(method !== "web-download" && (taken ?? failure) !== undefined
      ? ["takes_over and source_failure must be left out except for web-download"]
      : []),
    ...(method === "copy-image" && uri !== undefined
      ? ["uri must be left out for copy-image, which copies from a store"]
      : []),
    ...(method === "copy-image" && transforms !== undefined
      ? ["transforms must be left out for copy-image, which copies the image as it is"]
      : []),
  ];
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "" && isStorable(value);
}

/** The refusal of a store that is not configured. */
export function unknownStore(name: string, configured: readonly string[]): ImportError {
  const known = configured.map((each) => `"${each}"`).join(", ");
  return new ImportError(
    "UnknownStore",
    `Cannot find store "${name}": the configured stores are ${known}`,
  );
}

/** The refusal of a transform that is not configured. */
export function unknownTransform(name: string, configured: readonly string[]): ImportError {
  const known =
    configured.length === 0 ? "none is configured" : `configured are ${configured.join(", ")}`;
  return new ImportError("BadRequest", `There is no transform "${name}"; ${known}`, {
    hint: "Name a transform of `import.transforms` in the configuration of the worker.",
  });
}

function isListOfNames(value: unknown): value is string[] {
  return isTextList(value) && new Set(value).size === value.length;
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(isText);
}

function isTakenOver(value: unknown): boolean {
  if (!isSmallObject(value)) return false;
  const {
    disk_format: disk,
    container_format: container,
    properties,
    ...more
  } = value as Readonly<Record<string, unknown>>;
  const isRight =
    typeof disk === "string" &&
    isDiskFormat(disk) &&
    typeof container === "string" &&
    isContainerFormat(container);
  if (!isRight || !isSmallObject(properties) || Object.keys(more).length > 0) return false;
  return Object.values(properties).every((each) => typeof each === "string");
}

const MOST_BYTES_OF_OBJECT = 64 * 1024;

function isSmallObject(value: unknown): value is object {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const isSmall = new TextEncoder().encode(JSON.stringify(value)).length <= MOST_BYTES_OF_OBJECT;
  return isSmall && isStorable(value);
}
