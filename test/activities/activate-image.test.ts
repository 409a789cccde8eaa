import { sql } from "drizzle-orm";
import { describe, expect } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import { changeImage, findImage } from "../../src/db/image-records.ts";
import { storeKey } from "../../src/stores/store.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import {
  type NodeRig,
  onNode,
  runStep,
  someBytes,
  WAYS_TO_LOSE_AN_IMAGE,
} from "../support/node-rig.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);

async function record({ image_id }: ImportPlan) {
  return catalogue.database.query((db) => findImage(db, image_id));
}

describe("activateImage()", () => {
  it("publishes the image with its copies, and frees its claim", async ({ rig }) => {
    const plan = await rig.saved(someBytes(4096), ["fast", "slow"]);

    await rig.activate(plan);

    const { image, locations } = await record(plan);
    expect(image).toMatchObject({
      status: "active",
      claimTaskId: null,
      claimWorkflowId: null,
      claimRunId: null,
      claimEarlierStatus: null,
      importingToStores: [],
    });
    const key = storeKey(plan.image_id, plan.epoch);
    expect(locations).toMatchObject([
      { store: "fast", status: "active", key, url: `file://${rig.copyPath(plan, "fast")}` },
      { store: "slow", status: "active", key, url: `file://${rig.copyPath(plan, "slow")}` },
    ]);
  });

  it("ends the task with its result, and the leases", async ({ rig }) => {
    const plan = await rig.saved(someBytes(4096));

    await rig.activate(plan);

    expect(await catalogue.task(plan.task_id)).toMatchObject({
      status: "success",
      result: { image_id: plan.image_id },
      message: "",
    });
    expect(await catalogue.leases(plan.image_id)).toEqual([]);
  });

  it("changes nothing when it is run again", async ({ rig }) => {
    const plan = await rig.saved(someBytes(4096));
    await rig.activate(plan);
    const before = await rig.snapshot(plan);

    await rig.activate(plan);

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("publishes the image also when its task is gone", async ({ rig }) => {
    const plan = await rig.saved(someBytes(4096));
    await catalogue.execute(sql`DELETE FROM tasks WHERE id = ${plan.task_id}`);

    await rig.activate(plan);

    expect((await catalogue.image(plan.image_id)).status).toBe("active");
  });

  it("publishes the image also when its task has ended, which stays as it is", async ({ rig }) => {
    const plan = await rig.saved(someBytes(4096));
    await catalogue.execute(
      sql`UPDATE tasks SET status = 'failure', message = 'by hand' WHERE id = ${plan.task_id}`,
    );
    const task = await catalogue.task(plan.task_id);

    await rig.activate(plan);

    expect((await catalogue.image(plan.image_id)).status).toBe("active");
    expect(await catalogue.task(plan.task_id)).toEqual(task);
  });

  it("keeps what a person changed while the import ran", async ({ rig }) => {
    const plan = await rig.saved(someBytes(4096));
    const changes = { name: "web", setProperties: { os_distro: "debian" }, addTags: ["lts"] };
    await catalogue.database.transaction((db) =>
      changeImage(db, NO_LIMITS, plan.image_id, changes),
    );

    await rig.activate(plan);

    expect(await record(plan)).toMatchObject({
      image: { status: "active", name: "web" },
      properties: { os_distro: "debian" },
      tags: ["lts"],
    });
  });

  it.for(WAYS_TO_LOSE_AN_IMAGE)(
    "refuses an import %s, and changes nothing",
    async ([_, lose], { rig }) => {
      const plan = await rig.saved(someBytes(4096));
      const late = await lose(rig, plan);
      const before = await rig.snapshot(plan);

      const failure = await failureOf(rig.activate(late));

      expect(failure).toMatchObject({
        code: "ImportLost",
        message: `Image "${plan.image_id}" was deleted or taken while it was imported`,
      });
      expect(await rig.snapshot(plan)).toEqual(before);
    },
  );

  it("refuses an image whose copies are not saved", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(4096));
    await rig.store(plan, 4096);

    expect(await failureOf(rig.activate(plan))).toMatchObject({ code: "ImportLost" });
    expect((await catalogue.image(plan.image_id)).status).toBe("importing");
  });
});

describe("activateImage() of an image that was transformed", () => {
  const TRANSFORMED = {
    disk_format: "qcow2",
    properties: { origin: "web", reviewed: "no" },
  } as const;

  async function activate(rig: NodeRig, { image_id, epoch, task_id }: ImportPlan): Promise<void> {
    const order = { image_id, epoch, task_id, ...TRANSFORMED };
    await runStep(() => rig.control.activateImage(order));
  }

  it("sets its format and properties with its activation, and not before", async ({ rig }) => {
    const plan = await rig.saved(someBytes(4096));
    const before = await record(plan);

    await activate(rig, plan);

    expect(before).toMatchObject({ image: { diskFormat: "raw" }, properties: {} });
    expect(await record(plan)).toMatchObject({
      image: { status: "active", diskFormat: "qcow2", containerFormat: "bare" },
      properties: TRANSFORMED.properties,
    });
  });

  it("keeps the other properties, the name and the tags that a user has set meanwhile", async ({
    rig,
  }) => {
    const plan = await rig.saved(someBytes(4096));
    await catalogue.database.transaction((db) =>
      changeImage(db, NO_LIMITS, plan.image_id, {
        name: "theirs",
        setProperties: { reviewed: "yes", team: "qa" },
        addTags: ["nightly"],
      }),
    );

    await activate(rig, plan);

    expect(await record(plan)).toMatchObject({
      image: { name: "theirs" },
      properties: { origin: "web", reviewed: "no", team: "qa" },
      tags: ["nightly"],
    });
  });

  it("changes nothing when it is run again after a person has set a property", async ({ rig }) => {
    const plan = await rig.saved(someBytes(4096));
    await activate(rig, plan);
    await catalogue.database.transaction((db) =>
      changeImage(db, NO_LIMITS, plan.image_id, { setProperties: { reviewed: "yes" } }),
    );

    await activate(rig, plan);

    expect((await record(plan)).properties).toMatchObject({ reviewed: "yes" });
  });

  it.for(WAYS_TO_LOSE_AN_IMAGE)("sets nothing for an import %s", async ([_, lose], { rig }) => {
    const plan = await lose(rig, await rig.saved(someBytes(4096)));
    const before = await record(plan);

    expect(await failureOf(activate(rig, plan))).toMatchObject({ code: "ImportLost" });
    expect(await record(plan)).toEqual(before);
  });
});
