/* eslint plain-english/words: off -- the words are what the rule is tried on */
import { describe, expect, it } from "vitest";
import { parsePage, type Page } from "../../scripts/docs/markdown.mjs";
import { fillRegions, wrapped } from "../../scripts/docs/regions.mjs";
import { brokenRules, missingInIndex } from "../../scripts/docs/rules.mjs";

function mistakes(text: string, path = "docs/quotas.md"): string[] {
  const page = parsePage(path, `# Title\n\n${text}\n`);
  const pages = new Map<string, Page>([[path, page]]);
  return brokenRules(page, pages).map(({ line, message }) => `${String(line)}: ${message}`);
}

describe("brokenRules()", () => {
  it.each([
    ["[a](nowhere.md)", "3: nowhere.md: there is no such file"],
    ["[a](#nothing)", "3: #nothing: docs/quotas.md has no such heading"],
    ["[a](/docs/quotas.md)", "3: /docs/quotas.md: must be a path of the repository"],
    ["![a](../../outside.png)", "3: ../../outside.png: must be a path of the repository"],
    ["[a](http://example.org)", "3: http://example.org: must be a link of https"],
    ["[a](https://example)", "3: https://example: must name a host"],
    ["a\n".padEnd(125, "x"), "4: is wider than 120"],
    ["a ", "3: ends with a space"],
    ["| a   | b |\n|---|---|", "3: has a table with padding"],
    ["```bash\nls\n```", "4: has a block that is none of console, sh, ts, js, yaml, json, text"],
    ["```ts\nlet a;\n```", "4: has code that is not generated from a file"],
    ["in `src/domain/nothing.ts`", "3: src/domain/nothing.ts: there is no such file"],
    ["`npm run nothing`", "3: npm run nothing: package.json has no such script"],
    ["# Another", "1: must begin with its one title"],
    ["It stays for\ngood.", '3: "for good": write permanently'],
  ])("refuses %j", (text, mistake) => {
    expect(mistakes(text)).toEqual([mistake]);
  });

  it.each([
    "[a](#title) and [b](../README.md) and <https://temporal.io>",
    "`for good`, and:\n\n```text\nfor good\n```",
    "| a | b |\n|---|---|\n| c | d |",
    "in `domain/import-failure.ts` and `src/domain/import-failure.ts`",
    "`npm run check`, `npm test -- --project unit` and `npm start`",
    "<!-- generated: source x -->\n\n```ts\nlet a;\n```\n\n<!-- /generated -->",
  ])("accepts %j", (text) => {
    expect(mistakes(text)).toEqual([]);
  });

  it("wants the number and the date of a decision", () => {
    expect(mistakes("Text.", "docs/decisions/0007-no-local-activities.md")).toEqual([
      '1: must have the title "# 0007: …"',
      '3: must have a line "Date: YYYY-MM-DD" below its title',
    ]);
  });
});

describe("missingInIndex()", () => {
  it("finds the page that the index of its folder does not link", () => {
    const pages = new Map<string, Page>(
      [
        parsePage("docs/README.md", "# Index\n\n[a](a.md)\n"),
        parsePage("docs/a.md", "# A\n"),
        parsePage("docs/b.md", "# B\n"),
      ].map((page) => [page.path, page]),
    );

    expect(missingInIndex(pages)).toEqual([
      { path: "docs/b.md", line: 1, message: "is not linked from docs/README.md" },
    ]);
  });
});

describe("fillRegions()", () => {
  it("replaces the content of each region, and nothing else", () => {
    const page = "a\n<!-- generated: one -->\nold\n<!-- /generated -->\nb\n";

    const { text, names } = fillRegions(page, (name) => `new ${name}`);

    expect(names).toEqual(["one"]);
    expect(text).toBe("a\n<!-- generated: one -->\n\nnew one\n\n<!-- /generated -->\nb\n");
    expect(fillRegions(text, (name) => `new ${name}`).text).toBe(text);
  });
});

describe("wrapped()", () => {
  it("breaks lines between words, never inside code", () => {
    const text = `${"word ".repeat(18)}\`a b c d e f\` end`;

    expect(wrapped(text, { first: "- ", rest: "  " })).toBe(
      `- ${"word ".repeat(18).trim()}\n  \`a b c d e f\` end`,
    );
  });
});
