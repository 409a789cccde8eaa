import { InvalidArgumentError } from "commander";
import { describe, expect, it } from "vitest";
import {
  containerFormatOption,
  countOf,
  diskFormatOption,
  idOf,
  imageIdArgument,
  listOf,
  propertiesOf,
  storeOption,
} from "../../src/cli/arguments.ts";
import { UsageError } from "../../src/cli/failure.ts";
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

describe("idOf()", () => {
  it("takes a UUID", () => {
    expect(idOf(SOME_ID)).toBe(SOME_ID);
  });

  it.each(["", "12", SOME_ID.toUpperCase(), `${SOME_ID} `, SOME_ID.replaceAll("-", "")])(
    'refuses "%s" and shows what an id looks like',
    (text) => {
      expect(() => idOf(text)).toThrow(
        new UsageError(
          `"${text}" is not an id: it must be a UUID such as ${SOME_ID}, in lower case`,
          "`image-import image list` shows the ids of images, `image-import task list` those of tasks.",
        ),
      );
    },
  );
});

describe("imageIdArgument()", () => {
  it("is required, and an id", () => {
    const argument = imageIdArgument();

    expect(argument).toMatchObject({ required: true, variadic: false, parseArg: idOf });
    expect(argument.name()).toBe("image-id");
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
