import stringWidth from "string-width";
import { describe, expect, it } from "vitest";
import { printable } from "../../src/cli/printable.ts";
import { Table } from "../../src/cli/table.ts";

/** The lines of a table with an id, a name that may be cut, and a size. */
function linesOf(rows: readonly (readonly string[])[], maxWidth?: number): string[] {
  const table = new Table(
    [{ heading: "ID" }, { heading: "NAME", minWidth: 4 }, { heading: "SIZE" }],
    maxWidth,
  );
  table.makeRoom(rows);
  return `${table.heading()}${table.lines(rows)}`.split("\n");
}

describe("Table", () => {
  it("aligns characters that are two columns wide", () => {
    const rows = [
      ["1", "ディスク", "1 GiB"],
      ["2", "🦆 duck", "2 GiB"],
      ["3", "e\u0301te\u0301", "3 GiB"],
    ];

    expect(linesOf(rows)).toEqual([
      "ID  NAME      SIZE",
      "1   ディスク  1 GiB",
      "2   🦆 duck   2 GiB",
      "3   e\u0301te\u0301       3 GiB",
      "",
    ]);
  });

  it("shows line ends and escape sequences as text", () => {
    const rows = [["1", "two\nlines\t\u001b[31mred\u202e", "1 GiB"]];

    expect(linesOf(rows)).toEqual([
      "ID  NAME                             SIZE",
      "1   two\\nlines\\t\\u001b[31mred\\u202e  1 GiB",
      "",
    ]);
  });

  it("cuts what may be cut to the width of the terminal", () => {
    const rows = [
      ["0123456789", "ディスク ディスク ディスク", "1 GiB"],
      ["1", "short", ""],
    ];

    const lines = linesOf(rows, 30);

    expect(lines).toEqual([
      "ID          NAME         SIZE",
      "0123456789  ディスク …   1 GiB",
      "1           short",
      "",
    ]);
    expect(lines.every((line) => stringWidth(line) <= 30)).toBe(true);
  });

  it("never cuts an id, however narrow the terminal is", () => {
    expect(linesOf([["0123456789", "abcdefgh", "1 GiB"]], 10)[1]).toBe("0123456789  abc…  1 GiB");
  });

  it("does not cut without a terminal", () => {
    const name = "n".repeat(300);

    expect(linesOf([["1", name, ""]])[1]).toBe(`1   ${name}`);
  });

  it("keeps the room of earlier rows", () => {
    const table = new Table([{ heading: "A" }, { heading: "B" }]);
    table.makeRoom([["wide one", "x"]]);
    table.makeRoom([["y", "z"]]);

    expect(table.lines([["y", "z"]])).toBe("y         z\n");
  });
});

describe("printable()", () => {
  it("leaves ordinary text as it is", () => {
    expect(printable("ディスク 🦆 'quoted' \\")).toBe("ディスク 🦆 'quoted' \\");
  });
});
