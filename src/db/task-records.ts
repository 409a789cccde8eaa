import { and, desc, eq, inArray, sql } from "drizzle-orm";
import { ImportError } from "../domain/import-failure.ts";
import { taskStatusesBefore, type TaskStatus } from "../domain/task-status.ts";
import type { Queries } from "./connect.ts";
import { tasks } from "./schema.ts";

/** A task as the catalogue has it. */
export type TaskRow = typeof tasks.$inferSelect;

/** Glance's `task_time_to_live`. */
const TASK_TIME_TO_LIVE = sql`now() + interval '48 hours'`;

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

/** Lists tasks, newest first, of one image or of all. */
export async function listTasks(
  db: Queries,
  filter: { readonly imageId?: string | undefined; readonly limit: number },
): Promise<TaskRow[]> {
  return db
    .select()
    .from(tasks)
    .where(filter.imageId === undefined ? undefined : eq(tasks.imageId, filter.imageId))
    .orderBy(desc(tasks.createdAt))
    .limit(filter.limit);
}

function mayBecome(taskId: string, to: TaskStatus) {
  return and(eq(tasks.id, taskId), inArray(tasks.status, taskStatusesBefore(to)));
}

/** Says that the first byte step began. A task that is further already, or gone, is left as it is. */
export async function beginProcessing(db: Queries, taskId: string): Promise<void> {
  await db
    .update(tasks)
    .set({ status: "processing", updatedAt: sql`now()` })
    .where(mayBecome(taskId, "processing"));
}

/** Ends a task well. Returns false, and changes nothing, when it is gone or has ended already. */
export async function succeedTask(db: Queries, taskId: string, imageId: string): Promise<boolean> {
  const ended = await db
    .update(tasks)
    .set({
      status: "success",
      result: { image_id: imageId },
      updatedAt: sql`now()`,
      expiresAt: TASK_TIME_TO_LIVE,
    })
    .where(mayBecome(taskId, "success"))
    .returning({ id: tasks.id });
  return ended.length > 0;
}

/** Ends a task with the reason. Returns false, and changes nothing, when it is gone or has ended already. */
export async function failTask(db: Queries, taskId: string, message: string): Promise<boolean> {
  const ended = await db
    .update(tasks)
    .set({ status: "failure", message, updatedAt: sql`now()`, expiresAt: TASK_TIME_TO_LIVE })
    .where(mayBecome(taskId, "failure"))
    .returning({ id: tasks.id });
  return ended.length > 0;
}
