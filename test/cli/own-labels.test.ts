import { describe, expect, it } from "vitest";
import { labelsOf } from "../../src/cli/import-many.ts";
import { OwnLabels } from "../../src/cli/own-labels.ts";

describe("OwnLabels", () => {
  it("takes the first label that no other piece of work has", () => {
    const labels = new OwnLabels();

    expect(labels.take("name", "id")).toBe("name");
    expect(labels.take("name", "id")).toBe("id");
    expect(labels.take("name", "id")).toBe("id (2)");
    expect(labels.take("id (2)")).toBe("id (2) (2)");
  });
});

describe("labelsOf() of several sources", () => {
  it.each([
    [
      ["a/one", "b/two"],
      ["one", "two"],
    ],
    [
      ["a/x", "b/x"],
      ["x (1)", "x (2)"],
    ],
    [
      ["a/x", "b/x", "c/x (2)"],
      ["x (1)", "x (2) (2)", "x (2)"],
    ],
    [
      ["a/x", "a/x (1)", "b/x", "b/x (1)"],
      ["x (1)", "x (1) (2)", "x (3)", "x (1) (4)"],
    ],
  ])("of %j are %j", (sources, labels) => {
    expect(labelsOf(sources)).toEqual(labels);
  });
});
