import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { listText, type ListColumn, type ListFormat } from "../../src/cli/list-text.ts";

interface Row {
  readonly id: string;
  readonly name: string | null;
  readonly stores: readonly string[];
  readonly size: number | null;
}

const ROWS: readonly Row[] = [
  { id: "1", name: 'say "hi", ü', stores: ["fast", "slow"], size: 1024 },
  { id: "2", name: "two\nlines", stores: [], size: null },
  { id: "3", name: null, stores: ["fast"], size: 0 },
];

const HOSTILE = {
  id: "4",
  name: "a\u001b[31m\u009b31m\u007f\u202eb",
  stores: [],
  size: 0,
} satisfies Row;

const ID: ListColumn<Row> = { name: "id", value: ({ id }) => id };
const NAME: ListColumn<Row> = { name: "name", value: ({ name }) => name };
const STORES: ListColumn<Row> = { name: "stores", value: ({ stores }) => stores };
const SIZE: ListColumn<Row> = {
  name: "size",
  heading: "BYTES",
  value: ({ size }) => size,
  text: ({ size }) => `${String(size)} B`,
};

/** The text of rows that arrive in two pages. */
async function textOf(
  format: ListFormat,
  rows: readonly Row[] = ROWS,
  chosen?: readonly ListColumn<Row>[],
  isTerminal = false,
): Promise<string> {
  const pages = async function* (): AsyncGenerator<readonly Row[]> {
    if (rows.length > 0) yield rows.slice(0, 2);
    if (rows.length > 2) yield rows.slice(2);
  };
  const usual = [ID, NAME, STORES, SIZE];
  let text = "";
  for await (const part of listText(pages(), { format, usual, chosen, isTerminal })) text += part;
  return text;
}

describe("listText()", () => {
  it("is a table for people", async () => {
    expect(await textOf("table")).toBe(
      [
        "ID  NAME         STORES      BYTES",
        '1   say "hi", ü  fast, slow  1024 B',
        "2   two\\nlines   -           null B",
        "3   -            fast        0 B",
        "",
      ].join("\n"),
    );
  });

  it("is one JSON document of complete rows", async () => {
    expect(JSON.parse(await textOf("json"))).toEqual(ROWS);
  });

  it("is a JSON document of every line", async () => {
    const lines = (await textOf("jsonl")).trimEnd().split("\n");

    expect(lines.map((line): unknown => JSON.parse(line))).toEqual(ROWS);
  });

  it("is one YAML document of complete rows", async () => {
    expect(parse(await textOf("yaml"))).toEqual(ROWS);
  });

  it("is CSV with values for programs, quoted as RFC 4180 says", async () => {
    expect(await textOf("csv")).toBe(
      'id,name,stores,size\n1,"say ""hi"", ü","fast, slow",1024\n2,"two\nlines",,\n3,,fast,0\n',
    );
  });

  it.each([
    ["json", JSON.parse],
    ["jsonl", JSON.parse],
    ["yaml", (text: string): unknown => (parse(text) as unknown[])[0]],
  ] as const)(
    "has no character as %s that a terminal obeys, and the same values",
    async (format, read) => {
      const text = await textOf(format, [HOSTILE], [NAME]);

      expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/);
      expect([read(text)].flat()).toEqual([{ name: HOSTILE.name }]);
    },
  );

  it("shows a terminal no CSV with characters that it obeys, and leaves them to programs", async () => {
    expect(await textOf("csv", [HOSTILE], [NAME], true)).toBe(
      "name\na\\u001b[31m\\u009b31m\\u007f\\u202eb\n",
    );
    expect(await textOf("csv", [HOSTILE], [NAME])).toBe(`name\n${HOSTILE.name}\n`);
  });

  it.each([
    ["table", "BYTES   ID\n1024 B  1\n"],
    ["json", '[\n  {\n    "size": 1024,\n    "id": "1"\n  }\n]\n'],
    ["jsonl", '{"size":1024,"id":"1"}\n'],
    ["csv", "size,id\n1024,1\n"],
    ["yaml", '- size: 1024\n  id: "1"\n'],
  ] as const)("has the chosen columns as %s", async (format, text) => {
    expect(await textOf(format, ROWS.slice(0, 1), [SIZE, ID])).toBe(text);
  });

  it.each([
    ["table", "ID  NAME  STORES  BYTES\n"],
    ["json", "[]\n"],
    ["jsonl", ""],
    ["csv", "id,name,stores,size\n"],
    ["yaml", "[]\n"],
  ] as const)("is empty as %s", async (format, text) => {
    expect(await textOf(format, [])).toBe(text);
  });
});
