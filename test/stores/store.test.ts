import { describe, expect, it } from "vitest";
import { storeKey } from "../../src/stores/store.ts";

describe("storeKey()", () => {
  it("names image and epoch, so that no two imports write the same key", () => {
    expect(storeKey("6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b", 17)).toBe(
      "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b.17",
    );
  });
});
