import { randomBytes } from "node:crypto";
import { ApplicationFailure } from "@temporalio/common";
import { sql } from "drizzle-orm";
import { describe, expect, inject, onTestFinished, vi } from "vitest";
import { Database } from "../../src/db/connect.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold } from "../support/faults.ts";
import { type ImportRig, it } from "../support/import-rig.ts";
import { BACK_TO_STAGED, IMPORTED } from "../support/import-states.ts";
import { PATIENCE } from "../support/patience.ts";

/**
 * Makes the database of a rig a standby, and a primary again: the server ends all sessions, new
 * ones can't write.
 */
function failOver(rig: ImportRig): { away(): Promise<void>; back(): Promise<void> } {
  const admin = new Database({ url: inject("adminDatabaseUrl") });
  onTestFinished(() => admin.close());
  const name = new URL(rig.databaseUrl).pathname.slice(1);
  const become = async (state: "on" | "off"): Promise<void> => {
    await admin.query((db) =>
      db.execute(sql.raw(`ALTER DATABASE ${name} SET default_transaction_read_only = ${state}`)),
    );
    await admin.query((db) =>
      db.execute(
        sql`SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = ${name}`,
      ),
    );
  };
  return { away: () => become("on"), back: () => become("off") };
}

async function attempts(rig: ImportRig, call: string, number: number): Promise<void> {
  await vi.waitFor(
    () => {
      expect(rig.calls.filter((each) => each === call).length).toBeGreaterThanOrEqual(number);
    },
    { timeout: 45_000, interval: 50 },
  );
}

describe("importImage() on a database that becomes read-only", () => {
  it.for(["claimImport", "storeImage fast", "saveImage", "activateImage"])(
    "ends active when that happens before %s, once writes are possible again",
    async (call, { rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const database = failOver(rig);
      const step = new Hold();
      rig.fail(call, step.before);

      const started = rig.client.imports.start(imageId);
      await step.reached;
      await database.away();
      step.release();
      await attempts(rig, call, 4);
      await database.back();
      await started;
      await rig.client.imports.wait(imageId);

      expect(await rig.state(imageId)).toEqual({
        ...IMPORTED,
        task: ["success", "", { image_id: imageId }],
      });
    },
  );

  it.for(["removeCopy fast", "releaseImport"])(
    "undoes everything when that happens before %s, and the task keeps its reason",
    async (undo, { rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const database = failOver(rig);
      const step = new Hold();
      rig.fail("saveImage", failsWith("StagedDataChanged", "it changed"));
      rig.fail(undo, step.before);

      await rig.client.imports.start(imageId);
      await step.reached;
      await database.away();
      step.release();
      await attempts(rig, undo, 4);
      await database.back();
      const failure = await failureOf(rig.client.imports.wait(imageId));

      expect(failure).toMatchObject({ code: "StagedDataChanged" });
      expect(await rig.state(imageId)).toEqual({
        ...BACK_TO_STAGED,
        task: ["failure", "Error: StagedDataChanged: save: it changed", null],
      });
    },
  );

  it("says so to commands of people, in every verb", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const { client } = rig;
    await client.imports.start(await rig.stagedImage(randomBytes(1000)));
    const database = failOver(rig);
    await database.away();
    // The sessions from before are gone.
    await expect.poll(() => client.images.list().then((found) => found.length), PATIENCE).toBe(2);

    const failures = await Promise.all(
      [
        client.images.create({ diskFormat: "raw", containerFormat: "bare" }),
        client.images.delete(imageId),
        client.files.unstage(imageId),
        client.images.change(imageId, { name: "another" }),
      ].map((verb) => failureOf(verb)),
    );

    for (const failure of failures) {
      expect(failure).toMatchObject({
        code: "DatabaseUnavailable",
        hint: expect.stringContaining("read-only") as string,
      });
    }
    await database.back();
  });
});

describe("Compensations", () => {
  it("run an undo again that gave up because of the database, and leave nothing behind", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("saveImage", failsWith("StagedDataChanged", "it changed"));
    // What the workflow sees when the time of an undo is over.
    rig.fail("removeCopy fast", async () => {
      throw ApplicationFailure.nonRetryable("Postgres: it restarts", "DatabaseUnavailable");
    });

    await rig.client.imports.start(imageId);
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure).toMatchObject({ code: "StagedDataChanged" });
    expect(await rig.state(imageId)).toMatchObject(BACK_TO_STAGED);
    expect(rig.calls.slice(-3)).toEqual(["removeCopy fast", "removeCopy fast", "releaseImport"]);
  });
});

describe("importImage() whose database refuses", () => {
  it("answers before the acceptance, and waits for the operator after it", async ({ rig }) => {
    const [refused, accepted] = [
      await rig.stagedImage(randomBytes(1000)),
      await rig.stagedImage(randomBytes(1000)),
    ];
    const admin = new Database({ url: rig.databaseUrl });
    onTestFinished(() => admin.close());
    const rename = (from: string, to: string) =>
      admin.query((db) => db.execute(sql.raw(`ALTER TABLE ${from} RENAME TO ${to}`)));
    const step = new Hold();
    rig.fail("activateImage", step.before);
    await rig.client.imports.start(accepted);
    await step.reached;

    await rename("tasks", "tasks_away");
    const failure = await failureOf(rig.client.imports.start(refused));
    step.release();
    await attempts(rig, "activateImage", 3);
    await rename("tasks_away", "tasks");
    await rig.client.imports.wait(accepted);
    await failureOf(rig.client.imports.wait(refused));

    expect(failure).toMatchObject({
      code: "BadConfiguration",
      message: 'Postgres: relation "tasks" does not exist',
    });
    expect(await rig.state(accepted)).toMatchObject({ image: "active" });
    expect(await rig.state(refused)).toMatchObject({ image: "uploading", isClaimed: false });
  });
});
