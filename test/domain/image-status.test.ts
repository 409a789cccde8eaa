import { describe, expect, it } from "vitest";
import {
  IMAGE_STATUSES,
  imageStatusesBefore,
  nextImageStatus,
  type ImageStatus,
} from "../../src/domain/image-status.ts";

// Written down a second time, on purpose: this table is the specification. A row is the status
// before.
const LEGAL: Readonly<Record<ImageStatus, readonly ImageStatus[]>> = {
  queued: ["uploading", "importing", "pending_delete"],
  uploading: ["queued", "importing", "pending_delete"],
  importing: ["queued", "uploading", "saving", "active", "pending_delete"],
  saving: ["queued", "uploading", "active", "pending_delete"],
  active: ["deactivated", "pending_delete"],
  deactivated: ["active", "pending_delete"],
  pending_delete: ["deleted"],
  deleted: [],
};

const EVERY_PAIR = IMAGE_STATUSES.flatMap((from) => IMAGE_STATUSES.map((to) => ({ from, to })));
const LEGAL_PAIRS = EVERY_PAIR.filter(({ from, to }) => LEGAL[from].includes(to));
const ILLEGAL_PAIRS = EVERY_PAIR.filter(({ from, to }) => !LEGAL[from].includes(to));

describe("nextImageStatus()", () => {
  it.each(LEGAL_PAIRS)("lets an image go from $from to $to", ({ from, to }) => {
    expect(nextImageStatus(from, to)).toBe(to);
  });

  it.each(ILLEGAL_PAIRS)("refuses the way from $from to $to, naming both", ({ from, to }) => {
    expect(() => nextImageStatus(from, to)).toThrow(
      expect.objectContaining({
        code: "IllegalTransition",
        message: `Cannot change an image from "${from}" to "${to}"`,
      }),
    );
  });
});

describe("imageStatusesBefore()", () => {
  it.each<{ to: ImageStatus; before: ImageStatus[] }>([
    { to: "queued", before: ["uploading", "importing", "saving"] },
    { to: "uploading", before: ["queued", "importing", "saving"] },
    { to: "importing", before: ["queued", "uploading"] },
    { to: "saving", before: ["importing"] },
    { to: "active", before: ["importing", "saving", "deactivated"] },
    { to: "deactivated", before: ["active"] },
    {
      to: "pending_delete",
      before: ["queued", "uploading", "importing", "saving", "active", "deactivated"],
    },
    { to: "deleted", before: ["pending_delete"] },
  ])("names all that may become $to", ({ to, before }) => {
    expect(imageStatusesBefore(to)).toEqual(before);
  });
});
