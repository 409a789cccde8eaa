import { describe, expect, it } from "vitest";
import { runExample } from "../support/run-example.ts";
import { SharedStack } from "../support/shared-stack.ts";

const stack = new SharedStack();

describe("examples/start-an-import.mjs", () => {
  it("starts the import of an upload, follows it, and reports its end", async () => {
    const imageId = await stack.stagedImage(4096);

    const result = await runExample("start-an-import.mjs", await stack.environment(), imageId);

    const { os_hash_value: sha512, status } = await stack.showImage(imageId);
    expect(status).toBe("active");
    expect(result).toEqual({
      exitCode: 0,
      stdout: `4096 bytes, sha512 ${String(sha512)}\n`,
      stderr: expect.stringMatching(/^done\n$/m) as string,
    });
  });
});
