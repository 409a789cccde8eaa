import { randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { describe, expect, it, onTestFinished } from "vitest";
import { Database } from "../../src/db/connect.ts";
import { volumeUses } from "../../src/db/schema.ts";
import { VolumeUseRecords } from "../../src/db/volume-use-records.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

describe("VolumeUseRecords", () => {
  it("knows the last volume of each path of this host", async () => {
    const records = new VolumeUseRecords(catalogue.database);
    const [path, other] = [`/${randomUUID()}`, `/${randomUUID()}`];

    expect(await records.find(path)).toBeUndefined();
    await records.record(path, "0123456789ab");
    await records.record(other, "ba9876543210");
    await records.record(path, "ffff00000000");
    expect(await records.find(path)).toBe("ffff00000000");
    expect(await records.find(other)).toBe("ba9876543210");
  });

  it("ignores the volumes of other hosts", async () => {
    const path = `/${randomUUID()}`;
    await catalogue.database.query((db) =>
      db.insert(volumeUses).values({ machine: "elsewhere", root: path, node: "0123456789ab" }),
    );

    expect(await new VolumeUseRecords(catalogue.database).find(path)).toBeUndefined();
  });

  it("writes nothing for a volume that it knows", async () => {
    const records = new VolumeUseRecords(catalogue.database);
    const path = `/${randomUUID()}`;
    const version = async () =>
      catalogue.database.query((db) =>
        db.execute(sql`SELECT ctid::text FROM volume_uses WHERE root = ${path}`),
      );
    await records.record(path, "0123456789ab");
    const before = await version();
    await records.record(path, "0123456789ab");

    expect(await version()).toEqual(before);
  });

  it("is needed to tell a new volume, and not to use a known one", async () => {
    const database = new Database({ url: "postgres://user@127.0.0.1:1/nothing" });
    onTestFinished(() => database.close());
    const records = new VolumeUseRecords(database);

    expect(await failureOf(records.find("/staging"))).toMatchObject({
      code: "DatabaseUnavailable",
    });
    await records.record("/staging", "0123456789ab");
  });
});
