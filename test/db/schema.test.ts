import { randomUUID } from "node:crypto";
import { sql, type SQL } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { StatementError } from "../../src/db/database-failure.ts";
import { IMAGE_STATUSES } from "../../src/domain/image-status.ts";
import { TASK_STATUSES } from "../../src/domain/task-status.ts";
import { useCatalogue } from "../support/catalogue.ts";

const catalogue = useCatalogue();

/** The name of the constraint that a statement breaks; undefined when the database takes it. */
async function brokenBy(statement: SQL): Promise<unknown> {
  try {
    await catalogue.execute(statement);
    return undefined;
  } catch (error) {
    if (error instanceof StatementError) return error.constraint;
    throw error;
  }
}

/** Columns that an image may have in any status. */
const CLAIMED = sql`claim_task_id = ${randomUUID()}, claim_workflow_id = 'w', claim_run_id = 'r', claim_earlier_status = 'queued'`;
const VERIFIED = sql`size = 1, checksum = 'c', os_hash_algo = 'sha512', os_hash_value = 'v'`;

function aLocation(imageId: string, fields: { status: string; store?: string; epoch?: number }) {
  const { status, store = "fast", epoch = 1 } = fields;
  return sql`
    INSERT INTO image_locations (image_id, store, epoch, status, node, key, url, size, crc32)
    VALUES (${imageId}, ${store}, ${epoch}, ${status}, 'n', 'k', 'file:///k', 1, 1)`;
}

function aTask(status: string): SQL {
  return sql`
    INSERT INTO tasks (id, status, image_id, workflow_id, run_id, input)
    VALUES (${randomUUID()}, ${status}, ${randomUUID()}, 'w', 'r', '{}')`;
}

function aLease(state: string, place = "store/fast", imageId: string = randomUUID()): SQL {
  return sql`
    INSERT INTO leases (image_id, epoch, place, node, token, writer, part, path, state)
    VALUES (${imageId}, 1, ${place}, 'n', ${randomUUID()}, '{}', 'p', 'k', ${state})`;
}

describe("images", () => {
  it.each(IMAGE_STATUSES)("may be %s", async (status) => {
    const imageId = await catalogue.newImage();

    expect(
      await brokenBy(
        sql`UPDATE images SET status = ${status}, ${CLAIMED}, ${VERIFIED} WHERE id = ${imageId}`,
      ),
    ).toBeUndefined();
  });

  it.each(["", "Queued", "killed", "pending"])("are never in status %j", async (status) => {
    const imageId = await catalogue.newImage();

    expect(await brokenBy(sql`UPDATE images SET status = ${status} WHERE id = ${imageId}`)).toBe(
      "images_status_legal",
    );
  });

  it.each(["importing", "saving"])("are never %s without a claim", async (status) => {
    const imageId = await catalogue.newImage();

    expect(await brokenBy(sql`UPDATE images SET status = ${status} WHERE id = ${imageId}`)).toBe(
      "images_importing_is_claimed",
    );
  });

  it.each([
    ["task", sql`claim_task_id = NULL`],
    ["workflow", sql`claim_workflow_id = NULL`],
    ["run", sql`claim_run_id = NULL`],
    ["earlier status", sql`claim_earlier_status = NULL`],
  ])("have no claim without a %s", async (_, without) => {
    const imageId = await catalogue.newImage();
    await catalogue.execute(sql`UPDATE images SET ${CLAIMED} WHERE id = ${imageId}`);

    expect(await brokenBy(sql`UPDATE images SET ${without} WHERE id = ${imageId}`)).toBe(
      "images_claim_whole",
    );
  });

  it.each([
    ["active", "size", sql`size = NULL`],
    ["active", "checksum", sql`checksum = NULL`],
    ["active", "os_hash_algo", sql`os_hash_algo = NULL`],
    ["deactivated", "os_hash_value", sql`os_hash_value = NULL`],
  ])("are never %s without %s", async (status, _, without) => {
    const imageId = await catalogue.newImage();
    await catalogue.execute(sql`UPDATE images SET ${VERIFIED} WHERE id = ${imageId}`);

    expect(
      await brokenBy(sql`UPDATE images SET status = ${status}, ${without} WHERE id = ${imageId}`),
    ).toBe("images_active_is_verified");
  });

  it("have no disk format that is unknown to Glance", async () => {
    const imageId = await catalogue.newImage();

    expect(await brokenBy(sql`UPDATE images SET disk_format = 'qed' WHERE id = ${imageId}`)).toBe(
      "images_disk_format_known",
    );
  });

  it("have no container format that is unknown to Glance", async () => {
    const imageId = await catalogue.newImage();

    expect(
      await brokenBy(sql`UPDATE images SET container_format = 'zip' WHERE id = ${imageId}`),
    ).toBe("images_container_format_known");
  });
});

describe("image_properties", () => {
  it("never begin with os_glance_", async () => {
    const imageId = await catalogue.newImage();

    expect(
      await brokenBy(sql`INSERT INTO image_properties VALUES (${imageId}, 'os_glance_x', 'v')`),
    ).toBe("image_properties_not_reserved");
  });

  it("may begin with a similar prefix", async () => {
    const imageId = await catalogue.newImage();

    expect(
      await brokenBy(sql`INSERT INTO image_properties VALUES (${imageId}, 'os-glance-x', 'v')`),
    ).toBeUndefined();
  });

  it("belong to an image", async () => {
    expect(
      await brokenBy(sql`INSERT INTO image_properties VALUES (${randomUUID()}, 'n', 'v')`),
    ).toBe("image_properties_image_id_images_id_fk");
  });
});

describe("image_locations", () => {
  it.each([
    ["a second pending one", "pending", "pending"],
    ["a pending one beside an active one", "active", "pending"],
    ["an active one beside a pending one", "pending", "active"],
    ["a second active one", "active", "active"],
  ])("never have %s in one store", async (_, first, second) => {
    const imageId = await catalogue.newImage();
    await catalogue.execute(aLocation(imageId, { status: first, epoch: 1 }));

    expect(await brokenBy(aLocation(imageId, { status: second, epoch: 2 }))).toBe(
      "image_locations_one_live",
    );
  });

  it("may have a live one beside any number that wait for their deletion", async () => {
    const imageId = await catalogue.newImage();
    await catalogue.execute(aLocation(imageId, { status: "pending_delete", epoch: 1 }));
    await catalogue.execute(aLocation(imageId, { status: "pending_delete", epoch: 2 }));

    expect(await brokenBy(aLocation(imageId, { status: "active", epoch: 3 }))).toBeUndefined();
  });

  it("may have a live one in each store", async () => {
    const imageId = await catalogue.newImage();
    await catalogue.execute(aLocation(imageId, { status: "active", store: "fast" }));

    expect(await brokenBy(aLocation(imageId, { status: "active", store: "slow" }))).toBeUndefined();
  });

  it("are never in an unknown status", async () => {
    const imageId = await catalogue.newImage();

    expect(await brokenBy(aLocation(imageId, { status: "lost" }))).toBe(
      "image_locations_status_legal",
    );
  });
});

describe("tasks", () => {
  it.each(TASK_STATUSES)("may be %s", async (status) => {
    expect(await brokenBy(aTask(status))).toBeUndefined();
  });

  it.each(["", "cancelled", "Success"])("are never in status %j", async (status) => {
    expect(await brokenBy(aTask(status))).toBe("tasks_status_legal");
  });
});

describe("leases", () => {
  it.each(["writing", "whole"])("may be %s", async (state) => {
    expect(await brokenBy(aLease(state, "download"))).toBeUndefined();
  });

  it("are never in an unknown state", async () => {
    expect(await brokenBy(aLease("lost"))).toBe("leases_state_legal");
  });

  it("are one for each place of an import", async () => {
    const imageId = randomUUID();
    await catalogue.execute(aLease("writing", "product/1", imageId));

    expect(await brokenBy(aLease("writing", "product/2", imageId))).toBeUndefined();
    expect(await brokenBy(aLease("writing", "product/1", imageId))).toBe(
      "leases_image_id_epoch_place_pk",
    );
  });

  it("of copies are never whole without the facts of a check", async () => {
    expect(await brokenBy(aLease("whole"))).toBe("leases_whole_copy_is_checked");
  });
});

describe("staged_files", () => {
  it("are never there without a lease that names their files", async () => {
    expect(
      await brokenBy(sql`
        INSERT INTO staged_files (image_id, epoch, place, ours, size, fingerprint, staged_at, expires_at)
        VALUES (${randomUUID()}, 1, 'download', true, 1, '{}', now(), now())`),
    ).toBe("staged_files_lease_fk");
  });
});
