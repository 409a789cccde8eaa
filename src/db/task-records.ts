import { and, count, eq, inArray, isNull, lt, sql } from "drizzle-orm";
import { ImportError } from "../domain/import-failure.ts";
import { storableText } from "../domain/storable-text.ts";
import type { TaskFailure } from "../domain/task-failure.ts";
import { taskStatusesBefore, type TaskStatus } from "../domain/task-status.ts";
import type { TaskFilter } from "../domain/image-filter.ts";
import type { Queries } from "./connect.ts";
import { isAfter, isInTime, known, orderBy, orderOf } from "./keyset.ts";
import { images, tasks } from "./schema.ts";

/** A task as the catalogue has it. */
export type TaskRow = typeof tasks.$inferSelect;

/**
 * Time for which the record of an ended task is kept, in ms: Glance's default of
 * `task_time_to_live`, 48 h.
 */
export const DEFAULT_TASK_TIME_TO_LIVE_MS = 48 * 3_600_000;

function expiresIn(timeToLiveMs: number) {
  return sql`now() + make_interval(secs => ${timeToLiveMs / 1000})`;
}

/**
 * Reads one task.
 *
 * @throws ImportError `TaskNotFound`
 */
export async function findTask(db: Queries, taskId: string): Promise<TaskRow> {
  const [task] = await db.select().from(tasks).where(eq(tasks.id, taskId));
  if (task === undefined) throw new ImportError("TaskNotFound", `No task has the id "${taskId}"`);
  return task;
}

/**
 * Reads the task of the import that holds an image, else the newest of its tasks; undefined if it
 * has none.
 */
export async function findTaskOf(
  db: Queries,
  { id, claimTaskId }: Pick<typeof images.$inferSelect, "id" | "claimTaskId">,
): Promise<TaskRow | undefined> {
  if (claimTaskId !== null) return findTask(db, claimTaskId);
  const [newest] = await listTasks(db, { imageId: id, limit: 1 });
  return newest;
}

const KEYS = {
  created_at: known(tasks.createdAt),
  updated_at: known(tasks.updatedAt),
  status: known(tasks.status),
  id: known(tasks.id),
};

/**
 * Lists one page of tasks, by default the newest.
 *
 * @throws ImportError `BadRequest` for a marker that is gone
 */
export async function listTasks(db: Queries, filter: TaskFilter = {}): Promise<TaskRow[]> {
  const order = orderOf(KEYS, filter.sort);
  const { imageId, status, owner, marker } = filter;
  return db
    .select()
    .from(tasks)
    .where(
      and(
        imageId === undefined ? undefined : eq(tasks.imageId, imageId),
        status === undefined ? undefined : eq(tasks.status, status),
        owner === undefined
          ? undefined
          : owner === null
            ? isNull(tasks.owner)
            : eq(tasks.owner, owner),
        isInTime(tasks, filter),
        marker === undefined ? undefined : await isAfter(db, tasks, order, marker),
      ),
    )
    .orderBy(...orderBy(order))
    .limit(filter.limit ?? 100);
}

function mayBecome(taskId: string, to: TaskStatus) {
  return and(eq(tasks.id, taskId), inArray(tasks.status, taskStatusesBefore(to)));
}

/**
 * Records that the first byte step began. A task that is further already, or gone, is left as it
 * is.
 */
export async function beginProcessing(db: Queries, taskId: string): Promise<void> {
  await db
    .update(tasks)
    .set({ status: "processing", updatedAt: sql`now()` })
    .where(mayBecome(taskId, "processing"));
}

/**
 * Ends a task with success. Returns false, and changes nothing, when it is gone or has ended
 * already.
 */
export async function succeedTask(
  db: Queries,
  taskId: string,
  imageId: string,
  timeToLiveMs = DEFAULT_TASK_TIME_TO_LIVE_MS,
): Promise<boolean> {
  const ended = await db
    .update(tasks)
    .set({
      status: "success",
      result: { image_id: imageId },
      updatedAt: sql`now()`,
      expiresAt: expiresIn(timeToLiveMs),
    })
    .where(mayBecome(taskId, "success"))
    .returning({ id: tasks.id });
  return ended.length > 0;
}

/**
 * Ends a task with a failure, whose text may quote anything. Returns false, and changes nothing,
 * when it is gone or has ended already.
 */
export async function failTask(
  db: Queries,
  taskId: string,
  ending: TaskFailure,
  timeToLiveMs = DEFAULT_TASK_TIME_TO_LIVE_MS,
): Promise<boolean> {
  const { code, hint, step, store } = ending.failure ?? {};
  const stored = (text: string | undefined) => text && storableText(text);
  const ended = await db
    .update(tasks)
    .set({
      status: "failure",
      message: storableText(ending.message),
      code: stored(code),
      hint: stored(hint),
      step: stored(step),
      store: stored(store),
      updatedAt: sql`now()`,
      expiresAt: expiresIn(timeToLiveMs),
    })
    .where(mayBecome(taskId, "failure"))
    .returning({ id: tasks.id });
  return ended.length > 0;
}

/**
 * The condition that the record of a task may be removed, in a join with the image that it holds.
 */
const isExpired = and(
  inArray(tasks.status, ["success", "failure"]),
  lt(tasks.expiresAt, sql`now()`),
  isNull(images.id),
);

/** The number of records that {@link deleteExpiredTasks} would remove without a limit. */
export async function countExpiredTasks(db: Queries): Promise<number> {
  const [row] = await db
    .select({ expired: count() })
    .from(tasks)
    .leftJoin(images, eq(images.claimTaskId, tasks.id))
    .where(isExpired);
  return row?.expired ?? 0;
}

/**
 * Removes records of tasks that have ended and whose time to live has passed, the oldest first;
 * never that of a task that holds an image.
 *
 * @param limit - most records to remove
 * @returns the number of removed records
 */
export async function deleteExpiredTasks(db: Queries, limit: number): Promise<number> {
  const expired = await db
    .select({ id: tasks.id })
    .from(tasks)
    .leftJoin(images, eq(images.claimTaskId, tasks.id))
    .where(isExpired)
    .orderBy(tasks.expiresAt)
    .limit(limit);
  if (expired.length === 0) return 0;
  const ids = expired.map(({ id }) => id);
  const removed = await db.delete(tasks).where(inArray(tasks.id, ids)).returning({ id: tasks.id });
  return removed.length;
}
