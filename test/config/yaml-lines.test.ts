import { describe, expect, it } from "vitest";
import { YamlLines } from "../../src/config/yaml-lines.ts";

const lines = new YamlLines(`# a comment
stores:
  fast: { type: file, path: fast }
  slow:
    type: file
import:
  transforms:
    - decompress
    - convert
`);

describe("YamlLines", () => {
  it.each<[string, (string | number)[], number | undefined]>([
    ["a key", ["stores"], 2],
    ["a key of a flow map", ["stores", "fast", "path"], 3],
    ["a nested key", ["stores", "slow", "type"], 5],
    ["an item of a list", ["import", "transforms", 1], 9],
    ["the deepest key that is there", ["stores", "slow", "path"], 4],
    ["no line of a document that does not have the key", ["limits"], undefined],
  ])("finds %s", (_what, path, line) => {
    expect(lines.lineOf(path)).toBe(line);
  });

  it("has the values of the document", () => {
    expect(lines.value).toMatchObject({ import: { transforms: ["decompress", "convert"] } });
  });

  it("refuses what is not YAML, and names the line", () => {
    expect(() => new YamlLines("a: 1\nb: [\n")).toThrow(/line 3/);
  });

  it("has no value where the document is empty", () => {
    expect(new YamlLines("# nothing\n").value).toBeNull();
  });
});
