import {
  IMAGE_SORT_KEYS,
  type ImageFilter,
  type Sort,
  type TimeCondition,
} from "../domain/image-filter.ts";
import { CONTAINER_FORMATS, DISK_FORMATS } from "../domain/disk-format.ts";
import { IMAGE_STATUSES, type ImageStatus } from "../domain/image-status.ts";
import { isUuid } from "../domain/import-request.ts";
import { hasRealDay } from "../domain/instant.ts";
import { isAdmin, type Caller } from "./caller.ts";
import { badRequest } from "./http-failure.ts";
import { MOST_PROPERTIES } from "./image-attributes.ts";

type ImageSortKey = (typeof IMAGE_SORT_KEYS)[number];

/** Glance's default page size, and its largest. */
const DEFAULT_LIMIT = 25;
const LARGEST_LIMIT = 1000;

const SEEN_STATUSES: readonly ImageStatus[] = IMAGE_STATUSES.filter(
  (status) => status !== "pending_delete" && status !== "deleted",
);
const MEMBER_STATUSES = ["pending", "accepted", "rejected", "all"] as const;
const VISIBILITY_CHOICES = ["public", "private", "community", "shared", "all"] as const;
const TIME_OPERATORS = ["gt", "gte", "lt", "lte", "eq", "neq"] as const;
const MOST_MINIMUM = 2 ** 31 - 1;
const RANGED = ["size", "min_disk", "min_ram"] as const;

/** The images that a list shows, and the size of its page. */
export interface ListQuery {
  readonly filter: ImageFilter;
  readonly limit: number;
}

/**
 * Reads the query of a list of images.
 *
 * @param query - as it was sent, so that repeated parameters stay
 * @throws HttpFailure 400 naming the parameter and the rule
 */
export function readListQuery(query: URLSearchParams, caller: Caller): ListQuery {
  const limit = readLimit(query);
  const memberStatus = oneOf(query, "member_status", MEMBER_STATUSES) ?? "accepted";
  const visibility = oneOf(query, "visibility", VISIBILITY_CHOICES);
  const marker = last(query, "marker");
  if (marker !== undefined && !isUuid(marker)) {
    throw badRequest(`Marker "${marker}" could not be found: a marker is the id of an image`);
  }
  const properties = readProperties(query);
  const tags = query.getAll("tag");
  if (tags.length + Object.keys(properties).length > MOST_PROPERTIES) {
    throw badRequest(
      `A list is filtered by ${String(MOST_PROPERTIES)} tags and properties at most`,
    );
  }
  const filter: ImageFilter = {
    limit,
    ...(marker === undefined ? {} : { marker }),
    sort: readSort(query),
    status: readStatuses(query),
    ...(visibility === undefined || visibility === "all" ? {} : { visibility }),
    ...(isAdmin(caller)
      ? {}
      : {
          seenBy: {
            project: caller.project,
            memberStatus,
            community: visibility === "all" || visibility === "community",
          },
        }),
    hidden: readFlag(query, "os_hidden", true) ?? false,
    ...given("protected", readFlag(query, "protected", false)),
    ...(tags.length === 0 ? {} : { tags }),
    ...(Object.keys(properties).length === 0 ? {} : { properties }),
    ...readAttributes(query),
    ...readRanges(query),
    ...readTimes(query),
  };
  return { filter, limit };
}

/** The path of a page: with the parameters of the request, and with the marker of the page. */
export function pagePath(path: string, query: URLSearchParams, marker: string | undefined): string {
  const next = new URLSearchParams(query);
  next.delete("marker");
  if (marker !== undefined) next.set("marker", marker);
  const text = next.toString();
  return text === "" ? path : `${path}?${text}`;
}

/**
 * The page size that a request asks for.
 *
 * @throws HttpFailure 400
 */
export function readLimit(query: URLSearchParams): number {
  const text = last(query, "limit");
  if (text === undefined) return DEFAULT_LIMIT;
  if (!/^[+-]?\d+$/.test(text)) throw badRequest("limit param must be an integer");
  const limit = Number(text);
  if (limit < 0) throw badRequest("limit param must be positive");
  return Math.min(limit, LARGEST_LIMIT);
}

/** Glance's default order. The catalogue adds Glance's tie-breakers. */
const NEWEST: Sort<ImageSortKey> = { key: "created_at", direction: "desc" };

function readSort(query: URLSearchParams): readonly Sort<ImageSortKey>[] {
  const sort = query.getAll("sort").join(",");
  const keys = query.getAll("sort_key");
  const directions = query.getAll("sort_dir");
  if (sort !== "" && keys.length + directions.length > 0) {
    throw badRequest("Old and new sorting syntax cannot be combined");
  }
  if (sort !== "") {
    return sort.split(",").map((part) => {
      const [key = "", direction = "desc"] = part.trim().split(":", 2);
      return { key: sortKey(key), direction: sortDirection(direction) };
    });
  }
  if (keys.length === 0 && directions.length === 0) return [NEWEST];
  if (directions.length > 1 && directions.length !== Math.max(keys.length, 1)) {
    throw badRequest("Number of sort dirs does not match the number of sort keys");
  }
  const named = keys.length === 0 ? ["created_at"] : keys;
  return named.map((key, index) => ({
    key: sortKey(key),
    direction: sortDirection(directions[index] ?? directions[0] ?? "desc"),
  }));
}

function sortKey(text: string): ImageSortKey {
  const key = IMAGE_SORT_KEYS.find((each) => each === text);
  if (key !== undefined) return key;
  throw badRequest(`Invalid sort key: ${text}. It must be one of ${IMAGE_SORT_KEYS.join(", ")}.`);
}

function sortDirection(text: string): "asc" | "desc" {
  if (text === "asc" || text === "desc") return text;
  throw badRequest(`Invalid sort direction: ${text}. It must be one of asc, desc.`);
}

function readStatuses(query: URLSearchParams): readonly ImageStatus[] {
  const values = listed(query, "status");
  if (values === undefined) return SEEN_STATUSES;
  // A status that no image has finds nothing.
  return SEEN_STATUSES.filter((status) => values.includes(status));
}

function readAttributes(query: URLSearchParams): Partial<ImageFilter> {
  return {
    ...given("name", listed(query, "name")),
    ...given("id", readIds(query)),
    ...given("diskFormat", known(query, "disk_format", DISK_FORMATS)),
    ...given("containerFormat", known(query, "container_format", CONTAINER_FORMATS)),
    ...given("owner", last(query, "owner")),
    ...given("checksum", last(query, "checksum")),
    ...given("osHashValue", last(query, "os_hash_value")),
    ...given("minDisk", readNumber(query, "min_disk")),
    ...given("minRam", readNumber(query, "min_ram")),
  };
}

function readIds(query: URLSearchParams): readonly string[] | undefined {
  // A text that is not an id finds nothing.
  return listed(query, "id")
    ?.map((id) => id.toLowerCase())
    .filter(isUuid);
}

function readRanges(query: URLSearchParams): Partial<ImageFilter> {
  const size = readNumber(query, "size");
  return {
    ...given("sizeMin", readNumber(query, "size_min") ?? size),
    ...given("sizeMax", readNumber(query, "size_max") ?? size),
    ...given("minDiskMin", readNumber(query, "min_disk_min")),
    ...given("minDiskMax", readNumber(query, "min_disk_max")),
    ...given("minRamMin", readNumber(query, "min_ram_min")),
    ...given("minRamMax", readNumber(query, "min_ram_max")),
  };
}

function readTimes(query: URLSearchParams): Partial<ImageFilter> {
  const times = (["created_at", "updated_at"] as const).flatMap((field) =>
    query.getAll(field).map((text) => readTime(field, text)),
  );
  return times.length === 0 ? {} : { times };
}

function readTime(field: TimeCondition["field"], text: string): TimeCondition {
  const [, prefix, rest] = /^(?:([a-z]+):)?(.*)$/s.exec(text) ?? [];
  const op = prefix === undefined ? "eq" : TIME_OPERATORS.find((each) => each === prefix);
  if (op === undefined) {
    throw badRequest(
      `Unable to filter on an unknown operator: ${field}=${text}. It must be one of ${TIME_OPERATORS.join(", ")}.`,
    );
  }
  // A time without a zone is in UTC.
  const isZoned = /(?:z|[+-]\d\d:?\d\d)$/i.test(rest ?? "");
  const at = new Date(isZoned ? (rest ?? "") : `${rest ?? ""}Z`);
  const year = at.getUTCFullYear();
  if (!hasRealDay(rest ?? "") || Number.isNaN(year) || year < 1 || year > 9999) {
    throw badRequest(`Invalid time: ${field}=${text}. It must be like gte:2026-08-21T12:34:56Z.`);
  }
  return { field, op, at };
}

const NOT_PROPERTIES: readonly string[] = [
  ...["limit", "marker", "sort", "sort_key", "sort_dir", "member_status", "visibility", "tag"],
  ...["os_hidden", "protected", "status", "name", "id", "disk_format", "container_format", "owner"],
  ...["checksum", "os_hash_value", "min_disk", "min_ram", "size", "created_at", "updated_at"],
];

function readProperties(query: URLSearchParams): Record<string, string> {
  const properties: Record<string, string> = {};
  for (const [name, value] of query) {
    if (name === "changes-since") throw badRequest("Cannot filter by changes-since");
    if (NOT_PROPERTIES.includes(name)) continue;
    const ranged = /^(.*)_(?:min|max)$/.exec(name)?.[1];
    if (ranged !== undefined) {
      if ((RANGED as readonly string[]).includes(ranged)) continue;
      throw badRequest(`Cannot filter by ${name}: ranges are of ${RANGED.join(", ")}`);
    }
    properties[name] = value;
  }
  return properties;
}

/** The values of a parameter: `in:a,"b,c"`, `eq:a`, or one value without an operator. */
function listed(query: URLSearchParams, name: string): readonly string[] | undefined {
  const text = last(query, name);
  if (text === undefined) return undefined;
  const [, operator, values] = /^([a-z]+):(.*)$/s.exec(text) ?? [];
  if (operator === undefined || values === undefined) return [text];
  if (operator === "eq") return [unquoted(values)];
  if (operator !== "in") {
    throw badRequest(
      `Unable to filter on an unknown operator: ${operator}. Quote a value with a colon: ${name}=eq:"…"`,
    );
  }
  const parts = partsOf(values);
  if (parts !== undefined) return parts.map(unquoted);
  throw badRequest(`Invalid filter value ${values}. The quote is not closed, or a value is empty.`);
}

/** The values between commas, each as it was written; undefined if one of them is malformed. */
function partsOf(values: string): string[] | undefined {
  const part = /("(?:[^"\\]|\\.)*"|[^",]+)(,|$)/gsy;
  const parts: string[] = [];
  for (let match = part.exec(values); match !== null; match = part.exec(values)) {
    parts.push(match[1] ?? "");
    if (match[2] === "") return parts;
  }
  return undefined;
}

function unquoted(text: string): string {
  return /^".*"$/s.test(text) ? text.slice(1, -1).replace(/\\(.)/gs, "$1") : text;
}

function known<Word extends string>(
  query: URLSearchParams,
  name: string,
  words: readonly Word[],
): readonly Word[] | undefined {
  const values = listed(query, name);
  return values === undefined ? undefined : words.filter((word) => values.includes(word));
}

function oneOf<Word extends string>(
  query: URLSearchParams,
  name: string,
  words: readonly Word[],
): Word | undefined {
  const text = last(query, name);
  if (text === undefined) return undefined;
  const word = words.find((each) => each === text);
  if (word !== undefined) return word;
  throw badRequest(
    `Invalid ${name === "visibility" ? "visibility value" : "status"}: ${text}. It must be one of ${words.join(", ")}.`,
  );
}

function readFlag(query: URLSearchParams, name: string, isLenient: boolean): boolean | undefined {
  const text = last(query, name);
  if (text === undefined) return undefined;
  const word = isLenient ? text.toLowerCase() : text;
  if (word === "true" || word === "false") return word === "true";
  throw badRequest(
    `Invalid value '${text}' for '${name}' filter. Valid values are 'true' or 'false'.`,
  );
}

function readNumber(query: URLSearchParams, name: string): number | undefined {
  const text = last(query, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  const most = name.startsWith("min_") ? MOST_MINIMUM : Number.MAX_SAFE_INTEGER;
  if (/^\d+$/.test(text) && value <= most) return value;
  throw badRequest(`Unable to filter on a range with a non-numeric value: ${name}=${text}`);
}

function last(query: URLSearchParams, name: string): string | undefined {
  return query.getAll(name).at(-1);
}

function given<Name extends string, Value>(
  name: Name,
  value: Value | undefined,
): { readonly [Key in Name]?: Value } {
  return value === undefined ? {} : ({ [name]: value } as { readonly [Key in Name]?: Value });
}
