import { parseChecksum } from "./given-checksum.ts";
import { ImportError } from "./import-failure.ts";

/** The import methods that exist. Glance's words. */
export const IMPORT_METHODS = ["glance-direct", "web-download", "copy-image"] as const;

/**
 * How the bytes of an image come to us: from staging, from a URL, or from a store that has them
 * already.
 */
export type ImportMethod = (typeof IMPORT_METHODS)[number];

/**
 * What a person asks for: the one argument of the workflow `importImage`. Its names are Glance's.
 */
export interface ImportRequest {
  /** The image, by its id in the catalogue. */
  readonly image_id: string;
  /** Default: `glance-direct`, bytes that lie in staging. */
  readonly method?: ImportMethod;
  /**
   * `glance-direct`: where the staged bytes lie, `file:///…` below the staging root; default
   * `<node staging uri>/<image id>`. `web-download`: the `http` or `https` URL, sealed where it has
   * a query.
   */
  readonly uri?: string;
  /** The stores to fill. Default: the configured default store. */
  readonly stores?: readonly string[];
  /**
   * Fill every store that takes images, in the order of the configuration; `copy-image` leaves out
   * those that have the image. Not together with `stores`. Default: false.
   */
  readonly all_stores?: boolean;
  /**
   * Whether the first store that fails for good fails the import. If not, the image goes active in
   * the stores that have it, as long as there is one. Default: true.
   */
  readonly all_stores_must_succeed?: boolean;
  /**
   * Whether an image without a disk format gets the one that its bytes have, when they are judged.
   * A format that was declared stays. Default: false, such an image is refused.
   */
  readonly detect_format?: boolean;
  /** What the bytes must hash to, `sha256:<hex>`, or `md5:` or `sha512:`. Default: nobody knows. */
  readonly checksum?: string;
  /** How many bytes there must be. Default: nobody knows. */
  readonly size?: number;
  /** Roles of who asks; some transforms are not for all. Default: none. */
  readonly roles?: readonly string[];
  /**
   * Tells a client's retry from another client's request. Default: none, as for
   * `temporal workflow start`.
   */
  readonly request_id?: string;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** Whether this text is a UUID in the one spelling that we use: lower case, with hyphens. */
export function isUuid(text: unknown): boolean {
  return typeof text === "string" && UUID.test(text);
}

/**
 * Reads what somebody sent as the input of an import.
 *
 * @throws ImportError `BadRequest` naming every mistake at once
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
  /** What a value must be, for people. */
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
  uri: optional("a non-empty text", isText),
  stores: optional("a list of store names, not empty, none twice", (value) => {
    return isTextList(value) && value.length > 0 && new Set(value).size === value.length;
  }),
  detect_format: FLAG,
  all_stores: FLAG,
  all_stores_must_succeed: FLAG,
  checksum: optional(
    "sha256:, sha512: or md5: and as many hex digits as that has",
    (value) => typeof value === "string" && parseChecksum(value) !== undefined,
  ),
  size: optional(
    "a whole number of bytes",
    (value) => Number.isSafeInteger(value) && Number(value) >= 0,
  ),
  roles: optional("a list of texts", isTextList),
  request_id: optional("a text", isText),
};

function unknownFields(fields: Record<string, unknown>): string[] {
  const known = Object.keys(RULES);
  return Object.keys(fields)
    .filter((name) => !known.includes(name))
    .map((name) => `"${name}" is not a field of an import (${known.join(", ")})`);
}

function mistake(field: string, value: unknown, rule: string): string {
  return `${field} must be ${rule}, not ${value === undefined ? "absent" : JSON.stringify(value)}`;
}

/** What is right by itself, and wrong beside another field. */
function mistakesTogether(fields: Record<string, unknown>): string[] {
  const { method, uri, all_stores: allStores, stores } = fields;
  return [
    ...(allStores === true && stores !== undefined
      ? ["all_stores leaves no choice: leave out stores"]
      : []),
    ...(method === "web-download" && uri === undefined
      ? ["uri must be given for web-download, an http or https URL"]
      : []),
    ...(method === "copy-image" && uri !== undefined
      ? ["uri is of no use to copy-image, which copies from a store: leave it out"]
      : []),
  ];
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(isText);
}
