import { describe, expect, it } from "vitest";
import {
  NO_LIMITS,
  quotaExceeded,
  quotaLimitsOf,
  requireBelowCap,
  UNLIMITED,
  type Limits,
} from "../../src/domain/quota.ts";

const OF_ALL = { ...UNLIMITED, image_count_total: 5 };
const OF_QA = { ...UNLIMITED, image_count_total: 7 };
const LIMITS: Limits = {
  imageSizeCapBytes: 1024 ** 2,
  everyOwner: OF_ALL,
  owners: new Map([["qa", OF_QA]]),
};

describe("quotaLimitsOf()", () => {
  it.each([
    ["an owner who is named", "qa", OF_QA],
    ["an owner who is not", "dev", OF_ALL],
    ["no owner", null, OF_ALL],
    ["an owner whose name only the language knows", "constructor", OF_ALL],
  ])("gives those of %s", (_, owner, expected) => {
    expect(quotaLimitsOf(LIMITS, owner)).toBe(expected);
  });
});

describe("requireBelowCap()", () => {
  it("lets an image be as large as the cap", () => {
    expect(() => {
      requireBelowCap(LIMITS, "6d2f", 1024 ** 2);
    }).not.toThrow();
  });

  it("refuses one that is larger by a byte", () => {
    expect(() => {
      requireBelowCap(LIMITS, "6d2f", 1024 ** 2 + 1);
    }).toThrow(
      expect.objectContaining({
        code: "ImageTooLarge",
        message:
          'Image "6d2f" is too large: it has 1 MiB (1048577 bytes) at least, and image_size_cap is 1 MiB (1048576 bytes)',
      }),
    );
  });

  it("has no cap where nothing is configured", () => {
    expect(() => {
      requireBelowCap(NO_LIMITS, "6d2f", Number.MAX_SAFE_INTEGER);
    }).not.toThrow();
  });
});

describe("quotaExceeded()", () => {
  const numbers = { limit: 5, usage: 3, wanted: 3 };

  it("names the owner, the quota and the numbers, in Glance's words", () => {
    expect(quotaExceeded("qa", "image_size_total", numbers)).toMatchObject({
      code: "QuotaExceeded",
      retryable: false,
      message:
        'image_size_total of owner "qa" is over limit of 5 bytes due to current usage 3 bytes and delta 3 bytes',
    });
  });

  it("names images without an owner", () => {
    expect(quotaExceeded(null, "image_count_total", numbers).message).toBe(
      "image_count_total of images without an owner is over limit of 5 due to current usage 3 and delta 3",
    );
  });
});
