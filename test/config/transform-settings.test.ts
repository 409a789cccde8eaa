import { describe, expect, it } from "vitest";
import { parseConfig } from "../../src/config/config.ts";
import { mistakesOf } from "../support/config-mistakes.ts";

const PATH = "/etc/image-import/image-import.yaml";
const ONE_STORE = "stores: {fast: {type: file, path: /srv/fast}}";

function parse(text: string) {
  return parseConfig(`${ONE_STORE}\n${text.replace(/^ {6}/gm, "")}`, PATH).transforms;
}

const mistakes = (...all: string[]) => mistakesOf(PATH, all);

describe("parseConfig() of transforms", () => {
  it("keeps their order, and finds a module beside the file", () => {
    const text =
      "import: {transforms: [decompress, {module: own/x.mjs}, convert, inject_metadata]}";

    expect(parse(text).order).toEqual([
      "decompress",
      { module: "/etc/image-import/own/x.mjs" },
      "convert",
      "inject_metadata",
    ]);
  });

  it("names every mistake at once", () => {
    const text = `
      import: { transforms: [unpack, { modul: x }, 7] }
      decompress: { max_ratio: 0.5, memory: much, speed: 1 }
      convert: { output_format: vdi, time_limit: 3 }
      inject_metadata:
        properties: { os_glance_failed_import: x, "": y, weight: 3 }
        ignore_user_roles: admin
    `;
    const item =
      'must be one of "decompress", "convert", "inject_metadata", or {module: FILE} for a transform of your own';

    expect(() => parse(text)).toThrow(
      mistakes(
        `import.transforms.0: ${item}`,
        `import.transforms.1: ${item}`,
        `import.transforms.2: ${item}`,
        "decompress.max_ratio: Too small: expected number to be >=1",
        'decompress.memory: must be a size such as 64MiB, not "much"',
        'decompress: Unrecognized key: "speed"',
        'convert.output_format: Invalid option: expected one of "raw"|"qcow2"|"vmdk"',
        "convert.time_limit: Invalid input: expected string, received number",
        "inject_metadata.properties.os_glance_failed_import: Attribute 'os_glance_failed_import' is reserved",
        "inject_metadata.properties.: A property needs a name",
        "inject_metadata.properties.weight: must be text; put it in quotes",
        "inject_metadata.ignore_user_roles: Invalid input: expected array, received string",
      ),
    );
  });

  it("refuses a transform that is listed twice", () => {
    const text = "import: {transforms: [convert, {module: x.mjs}, convert, {module: x.mjs}]}";

    expect(() => parse(text)).toThrow(
      mistakes(
        'import.transforms.2: "convert" is listed twice',
        'import.transforms.3: "x.mjs" is listed twice',
      ),
    );
  });

  it("refuses convert before decompress", () => {
    expect(() => parse("import: {transforms: [convert, decompress]}")).toThrow(
      mistakes(
        'import.transforms.0: "decompress" must come before "convert", which cannot read a compressed image',
      ),
    );
  });
});
