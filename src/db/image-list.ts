import {
  and,
  eq,
  exists,
  gte,
  inArray,
  isNotNull,
  isNull,
  like,
  lt,
  lte,
  ne,
  not,
  or,
  sql,
  type SQL,
  type SQLWrapper,
} from "drizzle-orm";
import type { AnyPgColumn } from "drizzle-orm/pg-core";
import type { ImageFilter, SeenBy, TimeCondition } from "../domain/image-filter.ts";
import type { MemberStatus } from "../domain/visibility.ts";
import type { Queries } from "./connect.ts";
import { imageKeys, recordsOf, type ImageRecord } from "./image-records.ts";
import { isAfter, isInTime, orderBy, orderOf, type SortKey } from "./keyset.ts";
import { imageLocations, imageMembers, imageProperties, images, imageTags } from "./schema.ts";

const KEYS = imageKeys(images);

/**
 * Lists one page of images, by default the newest.
 *
 * @throws ImportError `BadRequest` for a marker that is gone, or that the caller does not see
 */
export async function listImages(db: Queries, filter: ImageFilter = {}): Promise<ImageRecord[]> {
  const { sort, limit = 100, marker, seenBy } = filter;
  if (limit === 0) return [];
  const order = orderOf(KEYS, sort);
  const isSeen = seenBy && mayBeSeen(db, seenBy);
  const chosen = order.filter(({ key }) => !hasOneValue(filter, key));
  const isNext =
    marker === undefined ? undefined : await isAfter(db, images, chosen, marker, isSeen);
  const isListed = and(isWanted(db, filter), isNext);
  if (seenBy === undefined) return recordsOf(db, isListed, { sort, limit });
  // The first images of a page of each circle: no index serves all circles together.
  const pages = circlesOf(db, seenBy).map(
    (isInCircle) =>
      sql`(${db
        .select({ id: images.id })
        .from(images)
        .where(and(isInCircle, isListed))
        .orderBy(...orderBy(order))
        .limit(limit)})`,
  );
  return recordsOf(db, sql`${images.id} IN (${sql.join(pages, sql` UNION ALL `)})`, {
    sort,
    limit,
  });
}

/**
 * True if the filter leaves one value of a sort key. Then the marker need not be compared by it,
 * and every index of the other keys can begin after the marker.
 */
function hasOneValue(filter: ImageFilter, key: string): boolean {
  const { name, owner, status, diskFormat, containerFormat } = filter;
  const given = new Map<string, unknown>([
    ["name", name],
    ["owner", owner],
    ["status", status],
    ["disk_format", diskFormat],
    ["container_format", containerFormat],
  ]).get(key);
  return given !== undefined && [given].flat().length === 1;
}

/** The condition that a caller may see an image, also one that its list leaves out. */
export function mayBeSeen(db: Queries, seenBy: SeenBy): SQL | undefined {
  return or(...circlesOf(db, { ...seenBy, memberStatus: "all", community: true }));
}

/** The circles of images that a caller sees, as conditions. No image is in two of them. */
function circlesOf(db: Queries, { project, memberStatus, community }: SeenBy): SQL[] {
  const isPublic = eq(images.visibility, "public");
  if (project === null)
    return community ? [isPublic, eq(images.visibility, "community")] : [isPublic];
  const isOthers = sql`${images.owner} IS DISTINCT FROM ${project}`;
  return [
    isPublic,
    sql`${isAnyOf(KEYS.owner, images.owner, [project])} AND ${images.visibility} <> 'public'`,
    sql`${images.visibility} = 'shared' AND ${isOthers} AND ${isOfferedTo(db, project, memberStatus)}`,
    ...(community ? [sql`${images.visibility} = 'community' AND ${isOthers}`] : []),
  ];
}

function isOfferedTo(db: Queries, project: string, memberStatus: MemberStatus | "all"): SQL {
  return exists(
    db
      .select({ one: sql`1` })
      .from(imageMembers)
      .where(
        and(
          eq(imageMembers.imageId, images.id),
          eq(imageMembers.member, project),
          memberStatus === "all" ? undefined : eq(imageMembers.status, memberStatus),
        ),
      ),
  );
}

function isWanted(db: Queries, filter: ImageFilter): SQL | undefined {
  const { status, owner, tags = [], properties = {}, times = [] } = filter;
  return and(
    filter.id === undefined ? undefined : inArray(images.id, [...filter.id]),
    status === undefined ? undefined : inArray(images.status, [status].flat()),
    status !== undefined && [status].flat().includes("deleted")
      ? undefined
      : ne(images.status, "deleted"),
    owner === undefined
      ? undefined
      : owner === null
        ? and(eq(KEYS.owner.value, ""), isNull(images.owner))
        : isAnyOf(KEYS.owner, images.owner, owner),
    isAnyOf(KEYS.name, images.name, filter.name),
    filter.namePattern === undefined ? undefined : like(images.name, likeOf(filter.namePattern)),
    isAnyOf(KEYS.disk_format, images.diskFormat, filter.diskFormat),
    isAnyOf(KEYS.container_format, images.containerFormat, filter.containerFormat),
    is(images.visibility, filter.visibility),
    is(images.protected, filter.protected),
    is(images.osHidden, filter.hidden),
    is(images.checksum, filter.checksum),
    is(images.osHashValue, filter.osHashValue),
    isBetween(KEYS.size.value, filter.sizeMin, filter.sizeMax),
    filter.sizeMin === undefined && filter.sizeMax === undefined
      ? undefined
      : isNotNull(images.sizeBytes),
    is(images.minDisk, filter.minDisk),
    isBetween(images.minDisk, filter.minDiskMin, filter.minDiskMax),
    is(images.minRam, filter.minRam),
    isBetween(images.minRam, filter.minRamMin, filter.minRamMax),
    isInTime(images, filter),
    ...times.map(isAtTime),
    filter.store === undefined ? undefined : isIn(db, filter.store),
    ...tags.map((tag) => hasTag(db, tag)),
    ...Object.entries(properties).map(([name, value]) => hasProperty(db, name, value)),
  );
}

function is(column: AnyPgColumn, wanted: unknown): SQL | undefined {
  return wanted === undefined ? undefined : eq(column, wanted);
}

/** The condition that a text is one of several, in the words of the index by which it is sorted. */
function isAnyOf(
  key: SortKey,
  column: AnyPgColumn,
  wanted: string | readonly string[] | undefined,
): SQL | undefined {
  if (wanted === undefined) return undefined;
  const texts = [wanted].flat();
  return and(inArray(key.value, texts), texts.includes("") ? isNotNull(column) : undefined);
}

function isBetween(value: SQLWrapper, least?: number, most?: number): SQL | undefined {
  return and(
    least === undefined ? undefined : gte(value, least),
    most === undefined ? undefined : lte(value, most),
  );
}

/** The condition of a time as users see it: in whole seconds, cut off. */
function isAtTime({ field, op, at }: TimeCondition): SQL | undefined {
  const column = field === "created_at" ? images.createdAt : images.updatedAt;
  const begins = new Date(Math.ceil(at.getTime() / 1000) * 1000);
  const ends = new Date(Math.floor(at.getTime() / 1000) * 1000 + 1000);
  const isShown = and(gte(column, begins), lt(column, ends));
  switch (op) {
    case "gt":
      return gte(column, ends);
    case "gte":
      return gte(column, begins);
    case "lt":
      return lt(column, begins);
    case "lte":
      return lt(column, ends);
    case "eq":
      return isShown;
    case "neq":
      return isShown && not(isShown);
  }
}

/** A pattern of a user in the words of LIKE. */
function likeOf(pattern: string): string {
  return pattern.replace(/\\?[^]/gu, (token) => {
    if (token === "*") return "%";
    if (token === "?") return "_";
    const literal = token.length > 1 && token.startsWith("\\") ? token.slice(1) : token;
    return /[%_\\]/.test(literal) ? `\\${literal}` : literal;
  });
}

/** The condition that the image can be read from the store. */
function isIn(db: Queries, store: string): SQL {
  return exists(
    db
      .select({ one: sql`1` })
      .from(imageLocations)
      .where(
        and(
          eq(imageLocations.imageId, images.id),
          eq(imageLocations.store, store),
          eq(imageLocations.status, "active"),
        ),
      ),
  );
}

function hasTag(db: Queries, tag: string): SQL {
  return exists(
    db
      .select({ one: sql`1` })
      .from(imageTags)
      .where(and(eq(imageTags.imageId, images.id), eq(imageTags.tag, tag))),
  );
}

// Characters in `value_start`.
const INDEXED_LENGTH = 100;

function hasProperty(db: Queries, name: string, value: string): SQL {
  const characters = Array.from(value);
  const beginning = characters.slice(0, INDEXED_LENGTH).join("");
  return exists(
    db
      .select({ one: sql`1` })
      .from(imageProperties)
      .where(
        and(
          eq(imageProperties.imageId, images.id),
          eq(imageProperties.name, name),
          eq(imageProperties.valueStart, beginning),
          // A shorter value is its own beginning. Postgres would count the second condition as a
          // further restriction, and expect too few images.
          characters.length < INDEXED_LENGTH ? undefined : eq(imageProperties.value, value),
        ),
      ),
  );
}
