import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { pagePaths, readPage } from "../../scripts/docs/markdown.mjs";
import { parseConfig } from "../../src/config/config.ts";

const STORES = { local: { type: "file", path: "stores/local" } };

const blocks = pagePaths().flatMap((path) =>
  readPage(path)
    .blocks.filter(({ language }) => language === "yaml")
    .map(({ text, line }) => ({ place: `${path}:${String(line)}`, text })),
);

describe("blocks of configuration", () => {
  it.each(blocks)("at $place are accepted by the configuration's schema", ({ text }) => {
    const settings = parse(text) as Record<string, unknown>;
    // A block that is about something else leaves out the stores.
    const whole = stringify({ stores: STORES, ...settings });

    expect(() => parseConfig(whole, "/etc/image-import.yaml", {})).not.toThrow();
  });
});

describe("docker-compose.yml", () => {
  it("has a configuration that the schema accepts", () => {
    const compose = parse(
      readFileSync(new URL("../../docker-compose.yml", import.meta.url), "utf8"),
      { merge: true },
    ) as { readonly configs: { readonly "image-import": { readonly content: string } } };
    const { content } = compose.configs["image-import"];

    expect(Object.keys(parseConfig(content, "/etc/image-import.yaml", {}).stores)).toEqual([
      "local",
      "objects",
    ]);
  });
});
