import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { TransformSettings } from "../../src/domain/transform-settings.ts";
import { Transforms } from "../../src/transforms/open-transforms.ts";
import { failureOf } from "../support/failure-of.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const injectMetadata = { properties: {}, ignoreUserRoles: [] };

async function open(...order: TransformSettings["order"]): Promise<Transforms> {
  return Transforms.open({ order, decompress: {}, convert: { target: "raw" }, injectMetadata });
}

/** A module of the user. */
function writeModule(text: string): { readonly module: string } {
  const module = join(makeTemporaryDirectory(), "own.mjs");
  writeFileSync(module, text);
  return { module };
}

const RUN = "async run() {}";

describe("Transforms.choose()", () => {
  it("gives all that are configured, in their order, when none is named", async () => {
    expect((await open("decompress", "inject_metadata")).choose()).toEqual([
      "decompress",
      "inject_metadata",
    ]);
  });

  it.each([[[]], [["inject_metadata"]], [["inject_metadata", "decompress"]]])(
    "gives %j as they are named",
    async (wanted) => {
      expect((await open("decompress", "inject_metadata")).choose(wanted)).toEqual(wanted);
    },
  );

  it("refuses one that is not configured, and names those that are", async () => {
    const transforms = await open("decompress", "inject_metadata");

    expect(() => transforms.choose(["decompress", "convert"])).toThrow(
      'There is no transform "convert"; configured are decompress, inject_metadata',
    );
  });
});

describe("Transforms.open()", () => {
  it("keeps the order of the configuration", async () => {
    const own = writeModule(`export default { name: "own", ${RUN} };`);
    const other = writeModule(`export default { name: "another", ${RUN} };`);

    const transforms = await open(own, "inject_metadata", other);

    expect(transforms.names).toEqual(["own", "inject_metadata", "another"]);
    expect(transforms.get("another").name).toBe("another");
  });

  it("opens none when none is configured", async () => {
    expect((await open()).names).toEqual([]);
  });

  it.each([
    ["export const x = 1;", "its default export must be an object with `name` and `run`"],
    ["export default () => {};", "its default export must be an object with `name` and `run`"],
    [
      "export default {};",
      "`name` must be text of a-z, 0-9, _ and -, with a letter or a digit first; `run` must be a function",
    ],
    [
      `export default { name: "Own!", ${RUN} };`,
      "`name` must be text of a-z, 0-9, _ and -, with a letter or a digit first",
    ],
    [
      'export default { name: "own", run: 1, undo: "x", check: {}, leavesBytes: 1 };',
      "`run` must be a function; `leavesBytes` must be true or false; " +
        "`undo` must be a function, or absent; `check` must be a function, or absent",
    ],
  ])("names the file of %j, and its mistakes", async (text, mistake) => {
    const own = writeModule(text);

    expect(await failureOf(open(own))).toMatchObject({
      code: "BadConfiguration",
      message: `Cannot use the transform "${own.module}": ${mistake}`,
    });
  });

  it("names a file that throws", async () => {
    const own = writeModule('throw new Error("not today");');

    expect(await failureOf(open(own))).toMatchObject({
      code: "BadConfiguration",
      message: `Cannot load the transform "${own.module}": not today`,
    });
  });

  it.each([
    ["that does not exist", () => ({ module: "/nowhere/own.mjs" })],
    ["that is not JavaScript", () => writeModule("export default {")],
  ])("names a file %s", async (_, make) => {
    const own = make();
    const failure = await failureOf(open(own));

    expect(failure).toMatchObject({ code: "BadConfiguration" });
    expect(failure.message).toContain(`Cannot load the transform "${own.module}": `);
  });

  it("refuses two with one name", async () => {
    const own = writeModule(`export default { name: "inject_metadata", ${RUN} };`);

    expect(await failureOf(open("inject_metadata", own))).toMatchObject({
      code: "BadConfiguration",
      message: 'Cannot use import.transforms: two transforms have the name "inject_metadata"',
    });
  });

  it("refuses a name that is not a transform", async () => {
    expect(await failureOf(open("unpack"))).toMatchObject({
      code: "BadConfiguration",
      message: 'Cannot use import.transforms: this version does not have "unpack"',
    });
  });
});

describe("Transforms.get()", () => {
  it("refuses a name that is not configured", async () => {
    const transforms = await open("inject_metadata");

    expect(() => transforms.get("convert")).toThrow(
      'Cannot run the transform "convert": the configuration of this worker does not have it',
    );
  });
});

describe("Transforms.requireWorking()", () => {
  it("accepts transforms that work, or have no check", async () => {
    const own = writeModule(`export default { name: "own", ${RUN}, async check() {} };`);

    await (await open(own, "inject_metadata")).requireWorking();
  });

  it("names all that do not work, with their reasons", async () => {
    const reasons = [`return "no tool"`, `throw new Error("no right")`];
    const [one = { module: "" }, two = { module: "" }] = reasons.map((reason, index) =>
      writeModule(`export default { name: "own${index}", ${RUN}, async check() { ${reason}; } };`),
    );

    expect(await failureOf((await open(one, two)).requireWorking())).toMatchObject({
      code: "BadConfiguration",
      message: "Cannot run transforms on this machine: own0: no tool; own1: no right",
    });
  });
});
