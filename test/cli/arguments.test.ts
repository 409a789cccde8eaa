import { Command, InvalidArgumentError } from "commander";
import { describe, expect, it } from "vitest";
import {
  addTransformChoice,
  containerFormatOption,
  countOf,
  diskFormatOption,
  listOf,
  newIdOf,
  propertiesOf,
  sizeOf,
  storeOption,
  transformsOf,
} from "../../src/cli/arguments.ts";
import { CONTAINER_FORMATS, DISK_FORMATS } from "../../src/domain/disk-format.ts";

const SOME_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";

describe("listOf()", () => {
  it("starts a list", () => {
    expect(listOf("fast")).toEqual(["fast"]);
  });

  it("adds to the earlier values, in order", () => {
    expect(listOf("slow", ["fast"])).toEqual(["fast", "slow"]);
  });
});

describe("addTransformChoice()", () => {
  function chosen(...args: readonly string[]): readonly string[] | undefined {
    const command = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
    addTransformChoice(command);
    return transformsOf(command.parse(args, { from: "user" }).opts());
  }

  it.each([
    [[], undefined],
    [["--no-transform"], []],
    [
      ["--transform", "convert", "--transform", "own"],
      ["convert", "own"],
    ],
    [["--no-transform", "--transform", "own"], ["own"]],
    [["--transform", "own", "--no-transform"], []],
  ])("reads %j as %j", (args, names) => {
    expect(chosen(...args)).toEqual(names);
  });

  it("refuses a transform that is named twice", () => {
    expect(() => chosen("--transform", "own", "--transform", "own")).toThrow("It is named twice.");
  });
});

describe("propertiesOf()", () => {
  it("takes the text before the first = as the name", () => {
    expect(propertiesOf("cmdline=root=/dev/vda")).toEqual({ cmdline: "root=/dev/vda" });
  });

  it("takes an empty value", () => {
    expect(propertiesOf("note=")).toEqual({ note: "" });
  });

  it("lets the last one of a name count", () => {
    expect(propertiesOf("os=debian", { os: "alpine", arch: "arm" })).toEqual({
      os: "debian",
      arch: "arm",
    });
  });

  it.each(["os", "=debian", ""])('refuses "%s"', (text) => {
    expect(() => propertiesOf(text)).toThrow(new InvalidArgumentError("It must be NAME=VALUE."));
  });
});

describe("countOf()", () => {
  it.each([
    ["1", 1],
    ["100", 100],
  ])('reads "%s"', (text, count) => {
    expect(countOf(text)).toBe(count);
  });

  it.each(["0", "-1", "1.5", "1e3", "0x10", " 7", "", "all", "9007199254740993"])(
    'refuses "%s"',
    (text) => {
      expect(() => countOf(text)).toThrow(
        new InvalidArgumentError("It must be an integer of at least 1."),
      );
    },
  );
});

describe("newIdOf()", () => {
  it.each([SOME_ID, SOME_ID.toUpperCase()])("takes a UUID in any case: %s", (text) => {
    expect(newIdOf(text)).toBe(SOME_ID);
  });

  it.each(["", "12", `${SOME_ID} `, SOME_ID.replaceAll("-", "")])('refuses "%s"', (text) => {
    expect(() => newIdOf(text)).toThrow(
      new InvalidArgumentError(`It must be a UUID such as ${SOME_ID}.`),
    );
  });
});

describe("sizeOf()", () => {
  it.each([
    ["0", 0],
    ["4096", 4096],
    ["1.5GiB", 1_610_612_736],
    ["64 MiB", 67_108_864],
  ])('reads "%s"', (text, sizeBytes) => {
    expect(sizeOf(text)).toBe(sizeBytes);
  });

  it.each(["", "-1", "10 GB", "ten", "1e3"])('refuses "%s"', (text) => {
    expect(() => sizeOf(text)).toThrow(
      new InvalidArgumentError("It must be a size such as 10737418240 or 10GiB."),
    );
  });
});

describe("diskFormatOption()", () => {
  it("takes the formats that exist, and no other", () => {
    expect(diskFormatOption("any").argChoices).toEqual(DISK_FORMATS);
  });
});

describe("containerFormatOption()", () => {
  it("takes the formats that exist, and no other", () => {
    expect(containerFormatOption("any").argChoices).toEqual(CONTAINER_FORMATS);
  });
});

describe("storeOption()", () => {
  it("may be repeated", () => {
    const option = storeOption();

    expect(option.long).toBe("--store");
    expect(option.parseArg?.("slow", ["fast"])).toEqual(["fast", "slow"]);
  });

  it("refuses a name that was given before", () => {
    expect(() => storeOption().parseArg?.("fast", ["fast"])).toThrow(
      new InvalidArgumentError("It is named twice."),
    );
  });
});
