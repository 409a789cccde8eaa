import { describe, expect, it } from "vitest";
import { wrapped } from "../../src/cli/wrapped.ts";

describe("wrapped()", () => {
  it("breaks a text between words, and indents what follows", () => {
    expect(wrapped("one two three four", 9, 2)).toEqual(["one two", "  three", "  four"]);
  });

  it.each(["  one two three", "\n one two three"])("repeats nothing of %j", (text) => {
    expect(wrapped(text, 7)).toEqual(["one two", "three"]);
  });

  it("keeps a number and its unit together", () => {
    expect(wrapped("it has 10 MiB", 9)).toEqual(["it has", "10 MiB"]);
  });
});
