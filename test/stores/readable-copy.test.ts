import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Stores } from "../../src/stores/open-stores.ts";
import { inReadingOrder, lookAtCopy, type RecordedCopy } from "../../src/stores/readable-copy.ts";
import { failureOf } from "../support/failure-of.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

function copyIn(store: string, damage: string | null = null): RecordedCopy {
  return { store, key: "image.1", sizeBytes: 5, damage };
}

describe("inReadingOrder()", () => {
  function storesOf(copies: readonly RecordedCopy[], attempt?: number): string[] {
    return inReadingOrder(copies, "fast", attempt).map(({ store }) => store);
  }

  it("begins with the default store, and keeps the order of the others", () => {
    expect(storesOf([copyIn("slow"), copyIn("far"), copyIn("fast")])).toEqual([
      "fast",
      "slow",
      "far",
    ]);
  });

  it("puts copies that are known to be damaged last, also that of the default store", () => {
    expect(storesOf([copyIn("fast", "x"), copyIn("slow", "x"), copyIn("far")])).toEqual([
      "far",
      "fast",
      "slow",
    ]);
  });

  it.each([
    [1, ["fast", "slow", "far", "bad"]],
    [2, ["slow", "far", "fast", "bad"]],
    [3, ["far", "fast", "slow", "bad"]],
    [4, ["fast", "slow", "far", "bad"]],
  ])("begins attempt %i with another good copy", (attempt, order) => {
    const copies = [copyIn("bad", "x"), copyIn("fast"), copyIn("slow"), copyIn("far")];

    expect(storesOf(copies, attempt)).toEqual(order);
  });

  it("keeps the order of damaged copies when no other is left", () => {
    expect(storesOf([copyIn("slow", "x"), copyIn("far", "x")], 2)).toEqual(["slow", "far"]);
  });
});

describe("lookAtCopy()", () => {
  async function openStores(): Promise<{ stores: Stores; path: string }> {
    const path = join(makeTemporaryDirectory(), "fast");
    await mkdir(path);
    return {
      stores: await Stores.open({ fast: { type: "file", path, zeroCopy: true } }, "fast"),
      path,
    };
  }

  it("opens a copy that has its size", async () => {
    const { stores, path } = await openStores();
    await writeFile(join(path, "image.1"), "bytes");

    const look = await lookAtCopy(stores, copyIn("fast"));

    expect(look.damage).toBeUndefined();
    const block = Buffer.alloc(5);
    await look.copy?.read(block, 0, 5, 0);
    await look.copy?.close();
    expect(block.toString()).toBe("bytes");
  });

  it("reports a copy that does not exist as missing", async () => {
    const { stores } = await openStores();

    expect(await lookAtCopy(stores, copyIn("fast"))).toEqual({ damage: "it is not in its store" });
  });

  it("reports a copy of another size as damaged", async () => {
    const { stores, path } = await openStores();
    await writeFile(join(path, "image.1"), "byte");

    expect(await lookAtCopy(stores, copyIn("fast"))).toEqual({ damage: "it has 4 bytes, not 5" });
  });

  it("fails when the store is unreachable", async () => {
    const { stores, path } = await openStores();
    await rm(path, { recursive: true });
    await writeFile(path, "");

    expect(await failureOf(lookAtCopy(stores, copyIn("fast")))).toMatchObject({
      code: "StoreUnavailable",
    });
  });

  it("fails for a store that is not configured", async () => {
    const { stores } = await openStores();

    expect(await failureOf(lookAtCopy(stores, copyIn("other")))).toMatchObject({
      code: "UnknownStore",
    });
  });
});
