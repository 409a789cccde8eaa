import { and, between, desc, eq, ne, sql, type SQL } from "drizzle-orm";
import { unionAll } from "drizzle-orm/pg-core";
import type { SeenBy } from "../domain/image-filter.ts";
import { idsThatBeginWith } from "../domain/reference.ts";
import type { Queries } from "./connect.ts";
import { mayBeSeen } from "./image-list.ts";
import { images, tasks } from "./schema.ts";

/** A row that a reference may mean. */
export interface Candidate {
  readonly id: string;
  readonly name: string | null;
  readonly status: string;
  readonly created_at: Date;
}

/** The largest number of candidates that are read: one more than a message lists. */
export const MOST_CANDIDATES = 11;

/**
 * The images that a reference means, newest first: those of the first group that is not empty. The
 * groups are the images of that name, those of that name whose deletion has begun, the images whose
 * id begins with it, and those whose deletion has begun. With `seenBy`, only images that this
 * caller sees.
 */
export async function findReferencedImages(
  db: Queries,
  reference: string,
  seenBy?: SeenBy,
): Promise<Candidate[]> {
  const range = idsThatBeginWith(reference);
  const isSeen = seenBy && mayBeSeen(db, seenBy);
  const ofName = imagesWhere(db, "name", and(eq(images.name, reference), isSeen));
  const rows =
    range === undefined
      ? await ofName
      : await unionAll(
          ofName,
          imagesWhere(db, "id", and(between(images.id, range.first, range.last), isSeen)),
        );
  const groups = [
    rows.filter(({ by, status }) => by === "name" && status !== "pending_delete"),
    rows.filter(({ by }) => by === "name"),
    rows.filter(({ status }) => status !== "pending_delete"),
    rows,
  ];
  const found = groups.find((group) => group.length > 0) ?? [];
  return found.map(({ id, name, status, created_at }) => ({ id, name, status, created_at }));
}

function imagesWhere(db: Queries, by: "name" | "id", isMeant: SQL | undefined) {
  return db
    .select({
      by: sql<string>`${by}::text`.as("by"),
      id: images.id,
      name: images.name,
      status: images.status,
      created_at: images.createdAt,
    })
    .from(images)
    .where(and(isMeant, ne(images.status, "deleted")))
    .orderBy(sql`${images.status} = 'pending_delete'`, desc(images.createdAt))
    .limit(MOST_CANDIDATES);
}

/** The tasks whose id begins with a text, newest first. */
export async function findReferencedTasks(db: Queries, reference: string): Promise<Candidate[]> {
  const range = idsThatBeginWith(reference);
  if (range === undefined) return [];
  return db
    .select({
      id: tasks.id,
      name: sql<null>`NULL`,
      status: tasks.status,
      created_at: tasks.createdAt,
    })
    .from(tasks)
    .where(between(tasks.id, range.first, range.last))
    .orderBy(desc(tasks.createdAt))
    .limit(MOST_CANDIDATES);
}
