import { describe, expect, it } from "vitest";
import { errorOf, placeText, readFailureDetails } from "../../src/domain/failure-details.ts";
import { ImportError, UnlistedFailure } from "../../src/domain/import-failure.ts";

describe("readFailureDetails()", () => {
  it.each([
    {
      what: "all fields",
      details: { code: "NoSpace", hint: "Free space.", step: "store", store: "fast" },
      expected: { code: "NoSpace", hint: "Free space.", step: "store", store: "fast" },
    },
    {
      what: "details of 0.1.0, which have no code",
      details: { store: "fast", hint: "Free space." },
      expected: { code: "Given", store: "fast", hint: "Free space." },
    },
    { what: "no details", details: undefined, expected: { code: "Given" } },
    { what: "details that are not an object", details: "NoSpace", expected: { code: "Given" } },
    { what: "a list of leftovers", details: [{ undo: "claim" }], expected: { code: "Given" } },
    {
      what: "other fields, and fields of other types",
      details: { code: 7, hint: null, step: "store", bytes: 12 },
      expected: { code: "Given", step: "store" },
    },
  ])("reads $what", ({ details, expected }) => {
    expect(readFailureDetails(details, "Given")).toEqual(expected);
  });
});

describe("placeText()", () => {
  it.each([
    [{ step: "save" }, "save"],
    [{ step: "store", store: "fast" }, 'store "fast"'],
    [{}, ""],
  ])("of %j is %j", (place, text) => {
    expect(placeText(place)).toBe(text);
  });
});

describe("errorOf()", () => {
  const cause = new Error("the cause");

  it("makes an ImportError of a code of the table", () => {
    const details = { code: "NoSpace", hint: "Free space.", step: "store", store: "fast" };

    const error = errorOf(details, "It is full", cause);

    expect(error).toBeInstanceOf(ImportError);
    expect(error).toMatchObject({ ...details, message: "It is full", cause });
  });

  it("keeps a code that the table does not list", () => {
    const error = errorOf({ code: "FromTheFuture", hint: "Update." }, "It is new", cause);

    expect(error).toBeInstanceOf(UnlistedFailure);
    expect(error).toMatchObject({
      code: "FromTheFuture",
      hint: "Update.",
      message: "It is new",
      cause,
    });
  });
});
