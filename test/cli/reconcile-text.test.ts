import { describe, expect, it } from "vitest";
import { leftoversText, reconciledText } from "../../src/cli/reconcile-text.ts";
import type { Leftover } from "../../src/workflow/contract.ts";

const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";
const NOTHING = { image_id: null, store: null, node: null, name: null };

describe("reconciledText()", () => {
  it("counts each kind of work", () => {
    const counts = { claims: 1, copies: 2, deletions: 3, staged: 4, parts: 5, tasks: 60 };

    expect(reconciledText({ ...counts, failures: ["copy of …"] })).toBe(
      [
        "WORK                      COUNT",
        "claims released           1",
        "copies removed            2",
        "deletions continued       3",
        "staged data removed       4",
        "parts removed             5",
        "records of tasks removed  60",
        "",
      ].join("\n"),
    );
  });
});

describe("leftoversText()", () => {
  it("has a line for each leftover, and counts the rest", () => {
    const leftovers: Leftover[] = [
      { ...NOTHING, kind: "claim", image_id: IMAGE_ID },
      { ...NOTHING, kind: "copy", image_id: IMAGE_ID, store: "fast", node: "a1" },
      { ...NOTHING, kind: "part", node: "a1", name: "x.part" },
    ];

    expect(leftoversText({ leftovers, left_out: 7, expired_tasks: 2, failures: [] })).toBe(
      [
        "WORK           IMAGE                                 STORE  NODE  NAME",
        `release claim  ${IMAGE_ID}  -      -     -`,
        `remove copy    ${IMAGE_ID}  fast   a1    -`,
        "remove part    -                                     -      a1    x.part",
        "and 7 more",
        "2 expired records of tasks",
        "",
      ].join("\n"),
    );
  });

  it("says that nothing is left behind", () => {
    expect(leftoversText({ leftovers: [], left_out: 0, expired_tasks: 0, failures: [] })).toBe(
      "nothing is left behind\n",
    );
  });
});
