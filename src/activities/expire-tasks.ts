import { countExpiredTasks, deleteExpiredTasks } from "../db/task-records.ts";
import type { Dependencies } from "./dependencies.ts";

// Each is one short transaction; the next reconciliation removes the rest.
const BATCH = 1_000;
const BATCHES = 20;

/** The end of records of tasks. */
export function expireTasksActivities({ database }: Dependencies) {
  return {
    /** Removes tasks that ended longer ago than their time to live, and returns their number. */
    async expireTasks(): Promise<number> {
      let removed = 0;
      for (let batch = 0; batch < BATCHES; batch += 1) {
        const count = await database.transaction((db) => deleteExpiredTasks(db, BATCH));
        removed += count;
        if (count < BATCH) break;
      }
      return removed;
    },

    /** The number of tasks that `expireTasks` would remove. */
    async countExpiredTasks(): Promise<number> {
      return database.query(countExpiredTasks);
    },
  };
}
