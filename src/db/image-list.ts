import { and, eq, exists, gte, isNull, like, lte, ne, sql, type SQL } from "drizzle-orm";
import type { ImageFilter } from "../domain/image-filter.ts";
import type { Queries } from "./connect.ts";
import { recordsOf, type ImageRecord } from "./image-records.ts";
import { isAfter, isInTime } from "./keyset.ts";
import { imageLocations, imageProperties, images, imageTags } from "./schema.ts";

const SORT_COLUMNS = {
  created_at: "createdAt",
  updated_at: "updatedAt",
  name: "name",
  owner: "owner",
  status: "status",
  size: "sizeBytes",
} as const;

/**
 * Lists one page of images, by default the newest.
 *
 * @throws ImportError `BadRequest` for a marker that is gone
 */
export async function listImages(db: Queries, filter: ImageFilter = {}): Promise<ImageRecord[]> {
  const { key, direction } = filter.sort ?? { key: "created_at", direction: "desc" };
  const column = SORT_COLUMNS[key];
  const columns = { key: images[column], id: images.id };
  const isNext =
    filter.marker === undefined
      ? undefined
      : await isAfter(db, images, columns, direction, filter.marker);
  return recordsOf(db, and(isWanted(db, filter), isNext), {
    column,
    direction,
    limit: filter.limit ?? 100,
  });
}

function isWanted(db: Queries, filter: ImageFilter): SQL | undefined {
  const { owner, tags = [], properties = {} } = filter;
  return and(
    filter.status === undefined ? ne(images.status, "deleted") : eq(images.status, filter.status),
    owner === undefined
      ? undefined
      : owner === null
        ? isNull(images.owner)
        : eq(images.owner, owner),
    filter.name === undefined ? undefined : eq(images.name, filter.name),
    filter.namePattern === undefined ? undefined : like(images.name, likeOf(filter.namePattern)),
    filter.diskFormat === undefined ? undefined : eq(images.diskFormat, filter.diskFormat),
    filter.containerFormat === undefined
      ? undefined
      : eq(images.containerFormat, filter.containerFormat),
    filter.sizeMin === undefined ? undefined : gte(images.sizeBytes, filter.sizeMin),
    filter.sizeMax === undefined ? undefined : lte(images.sizeBytes, filter.sizeMax),
    isInTime(images, filter),
    filter.store === undefined ? undefined : isIn(db, filter.store),
    ...tags.map((tag) => hasTag(db, tag)),
    ...Object.entries(properties).map(([name, value]) => hasProperty(db, name, value)),
  );
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

/** The image can be read from the store. */
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

function hasProperty(db: Queries, name: string, value: string): SQL {
  return exists(
    db
      .select({ one: sql`1` })
      .from(imageProperties)
      .where(
        and(
          eq(imageProperties.imageId, images.id),
          eq(imageProperties.name, name),
          eq(imageProperties.value, value),
        ),
      ),
  );
}
