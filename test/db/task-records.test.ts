import { randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import {
  beginProcessing,
  deleteExpiredTasks,
  failTask,
  findTask,
  listTasks,
  succeedTask,
} from "../../src/db/task-records.ts";
import type { TaskStatus } from "../../src/domain/task-status.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

const RESULT = { image_id: "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b" };

/** A task in the given status. */
async function taskIn(status: TaskStatus): Promise<string> {
  const { taskId } = await catalogue.claimedImage();
  await catalogue.execute(sql`UPDATE tasks SET status = ${status} WHERE id = ${taskId}`);
  return taskId;
}

/** Milliseconds from the last change of a task until its record expires. */
async function timeToLiveOf(taskId: string): Promise<number> {
  const { updatedAt, expiresAt } = await catalogue.task(taskId);
  return (expiresAt?.getTime() ?? 0) - updatedAt.getTime();
}

describe("findTask()", () => {
  it("finds a task", async () => {
    const { taskId, imageId } = await catalogue.claimedImage();

    const task = await catalogue.database.query((db) => findTask(db, taskId));

    expect(task).toMatchObject({ id: taskId, imageId, status: "pending" });
  });

  it("fails with TaskNotFound when the task does not exist", async () => {
    const taskId = randomUUID();

    expect(await failureOf(catalogue.database.query((db) => findTask(db, taskId)))).toMatchObject({
      code: "TaskNotFound",
      message: `No task has the id "${taskId}"`,
    });
  });
});

describe("listTasks()", () => {
  /** An image that was imported twice, and its tasks, the older one first. */
  async function importedTwice(): Promise<{ imageId: string; taskIds: string[] }> {
    const { imageId, taskId: older } = await catalogue.claimedImage();
    const { taskId: newer } = await catalogue.claim(imageId);
    await catalogue.execute(
      sql`UPDATE tasks SET created_at = now() - interval '1 minute' WHERE id = ${older}`,
    );
    return { imageId, taskIds: [older, newer] };
  }

  it("lists the tasks of one image, newest first", async () => {
    const { imageId, taskIds } = await importedTwice();

    const tasks = await catalogue.database.query((db) => listTasks(db, { imageId, limit: 100 }));

    expect(tasks.map(({ id }) => id)).toEqual(taskIds.reverse());
  });

  it("lists no more than the limit", async () => {
    const { imageId, taskIds } = await importedTwice();

    const tasks = await catalogue.database.query((db) => listTasks(db, { imageId, limit: 1 }));

    expect(tasks.map(({ id }) => id)).toEqual(taskIds.slice(1));
  });

  it("lists the tasks of all images when none is named", async () => {
    const one = await catalogue.claimedImage();
    const other = await catalogue.claimedImage();

    const tasks = await catalogue.database.query((db) => listTasks(db, { limit: 10_000 }));

    expect(tasks.map(({ id }) => id)).toEqual(expect.arrayContaining([one.taskId, other.taskId]));
  });
});

describe("beginProcessing()", () => {
  it("moves a task that is pending", async () => {
    const taskId = await taskIn("pending");

    await catalogue.database.query((db) => beginProcessing(db, taskId));

    expect(await catalogue.task(taskId)).toMatchObject({ status: "processing", expiresAt: null });
  });

  it.each(["processing", "success", "failure"] as const)(
    "leaves a task in %s unchanged",
    async (status) => {
      const taskId = await taskIn(status);
      const before = await catalogue.task(taskId);

      await catalogue.database.query((db) => beginProcessing(db, taskId));

      expect(await catalogue.task(taskId)).toEqual(before);
    },
  );

  it("does nothing for a task that is gone", async () => {
    await expect(
      catalogue.database.query((db) => beginProcessing(db, randomUUID())),
    ).resolves.toBeUndefined();
  });
});

describe("succeedTask()", () => {
  it("ends a task that is processing, with its result", async () => {
    const taskId = await taskIn("processing");

    const ended = await catalogue.database.query((db) => succeedTask(db, taskId, RESULT.image_id));

    expect(ended).toBe(true);
    expect(await catalogue.task(taskId)).toMatchObject({ status: "success", result: RESULT });
  });

  it("lets the record expire 48 hours later", async () => {
    const taskId = await taskIn("processing");

    await catalogue.database.query((db) => succeedTask(db, taskId, RESULT.image_id));

    expect(await timeToLiveOf(taskId)).toBe(48 * 3_600_000);
  });

  it.each(["pending", "success", "failure"] as const)(
    "leaves a task in %s unchanged, and returns false",
    async (status) => {
      const taskId = await taskIn(status);
      const before = await catalogue.task(taskId);

      const ended = await catalogue.database.query((db) =>
        succeedTask(db, taskId, RESULT.image_id),
      );

      expect(ended).toBe(false);
      expect(await catalogue.task(taskId)).toEqual(before);
    },
  );

  it("returns false when the task is gone", async () => {
    expect(
      await catalogue.database.query((db) => succeedTask(db, randomUUID(), RESULT.image_id)),
    ).toBe(false);
  });
});

describe("failTask()", () => {
  it.each(["pending", "processing"] as const)(
    "ends a task in %s with the reason",
    async (status) => {
      const taskId = await taskIn(status);

      const ended = await catalogue.database.query((db) =>
        failTask(db, taskId, { message: "Error: x" }),
      );

      expect(ended).toBe(true);
      expect(await catalogue.task(taskId)).toMatchObject({
        status: "failure",
        message: "Error: x",
        result: null,
      });
    },
  );

  it("records the failure", async () => {
    const taskId = await taskIn("processing");
    const failure = { code: "NoSpace", hint: "Free space.", step: "store", store: "fast" };

    await catalogue.database.query((db) =>
      failTask(db, taskId, { message: "Error: NoSpace: it is full", failure }),
    );

    expect(await catalogue.task(taskId)).toMatchObject({ status: "failure", ...failure });
  });

  it("records a failure that quotes characters which Postgres does not keep", async () => {
    const taskId = await taskIn("processing");
    const failure = { code: "Bad\0Magic", hint: "Use \ud800.", step: "transform" };

    await catalogue.database.query((db) =>
      failTask(db, taskId, { message: "Error: bad magic \0\0 \udc00 \u{1f986}", failure }),
    );

    expect(await catalogue.task(taskId)).toMatchObject({
      status: "failure",
      message: "Error: bad magic \ufffd\ufffd \ufffd \u{1f986}",
      code: "Bad\ufffdMagic",
      hint: "Use \ufffd.",
    });
  });

  it("lets the record expire 48 hours later", async () => {
    const taskId = await taskIn("pending");

    await catalogue.database.query((db) => failTask(db, taskId, { message: "Error: x" }));

    expect(await timeToLiveOf(taskId)).toBe(48 * 3_600_000);
  });

  it.each(["success", "failure"] as const)(
    "leaves a task in %s unchanged, and returns false",
    async (status) => {
      const taskId = await taskIn(status);
      const before = await catalogue.task(taskId);

      const ended = await catalogue.database.query((db) =>
        failTask(db, taskId, { message: "Error: x" }),
      );

      expect(ended).toBe(false);
      expect(await catalogue.task(taskId)).toEqual(before);
    },
  );

  it("returns false when the task is gone", async () => {
    expect(
      await catalogue.database.query((db) => failTask(db, randomUUID(), { message: "Error: x" })),
    ).toBe(false);
  });
});

describe("deleteExpiredTasks()", () => {
  /** A task in the given status that expired an hour ago and holds no image. */
  async function expiredTask(status: TaskStatus): Promise<string> {
    const taskId = await heldExpiredTask(status);
    await catalogue.execute(sql`
      UPDATE images SET status = 'queued', claim_task_id = NULL, claim_workflow_id = NULL,
        claim_run_id = NULL, claim_earlier_status = NULL WHERE claim_task_id = ${taskId}`);
    return taskId;
  }

  async function heldExpiredTask(status: TaskStatus): Promise<string> {
    const taskId = await taskIn(status);
    await catalogue.execute(
      sql`UPDATE tasks SET expires_at = now() - interval '1 hour' WHERE id = ${taskId}`,
    );
    return taskId;
  }

  async function expire(limit = 100): Promise<number> {
    return catalogue.database.transaction((db) => deleteExpiredTasks(db, limit));
  }

  async function isThere(taskId: string): Promise<boolean> {
    const tasks = await catalogue.database.query((db) => listTasks(db, { limit: 10_000 }));
    return tasks.some(({ id }) => id === taskId);
  }

  it.each(["success", "failure"] as const)("removes a task that ended in %s", async (status) => {
    const taskId = await expiredTask(status);

    await expire();

    expect(await isThere(taskId)).toBe(false);
  });

  it("leaves tasks that have not expired, and tasks that have not ended", async () => {
    const [fresh, ended] = [await taskIn("success"), await taskIn("processing")];
    await catalogue.database.query((db) => failTask(db, ended, { message: "Error: x" }));
    const running = await expiredTask("processing");

    await expire();

    expect([await isThere(fresh), await isThere(ended), await isThere(running)]).toEqual([
      true,
      true,
      true,
    ]);
  });

  it("leaves a task that holds an image", async () => {
    const taskId = await heldExpiredTask("failure");

    await expire();

    expect(await isThere(taskId)).toBe(true);
  });

  it("removes no more tasks at once than the limit", async () => {
    await expire();
    await expiredTask("success");
    await expiredTask("failure");

    expect([await expire(1), await expire(1), await expire(1)]).toEqual([1, 1, 0]);
  });
});
