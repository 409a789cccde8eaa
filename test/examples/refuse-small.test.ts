import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { TransformWork } from "../../src/transforms/transform.ts";
import { loadTransform } from "../../src/transforms/load-transform.ts";

const EXAMPLE = fileURLToPath(new URL("../../examples/refuse-small.mjs", import.meta.url));

describe("examples/refuse-small.mjs", () => {
  it("refuses an image that is too small, and marks all others", async () => {
    const transform = await loadTransform(EXAMPLE);
    const run = (sizeBytes: number) => transform.run({ sizeBytes } as TransformWork);

    await expect(run(100)).rejects.toThrow("100 bytes are not a disk");
    await expect(run(4096)).resolves.toEqual({
      hasProduct: false,
      properties: { checked_by: "refuse_small" },
    });
  });
});
