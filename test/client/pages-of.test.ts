import { describe, expect, it } from "vitest";
import { pagesOf } from "../../src/client/pages-of.ts";

const ROWS = ["a", "b", "c"].map((id) => ({ id }));

async function pages(limit: number): Promise<string[][]> {
  const list = ({ marker, limit: most }: { marker: string | undefined; limit: number }) => {
    const begin = ROWS.findIndex(({ id }) => id === marker) + 1;
    return Promise.resolve(ROWS.slice(begin, begin + most));
  };
  const found: string[][] = [];
  for await (const rows of pagesOf(list, { limit })) found.push(rows.map(({ id }) => id));
  return found;
}

describe("pagesOf()", () => {
  it.each([
    [0, []],
    [1, [["a"], ["b"], ["c"]]],
    [2, [["a", "b"], ["c"]]],
    [3, [["a", "b", "c"]]],
  ])("ends with pages of %d rows", async (limit, expected) => {
    expect(await pages(limit)).toEqual(expected);
  });
});
