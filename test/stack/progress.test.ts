import { EventEmitter, once } from "node:events";
import { describe, expect, it } from "vitest";
import { whileSaying } from "../../src/stack/progress.ts";

describe("whileSaying()", () => {
  it("reports the work and its state while it lasts, and returns its result", async () => {
    const lines = new EventEmitter();
    const said = once(lines, "line");
    let detail = "at the beginning";

    const result = whileSaying(
      (line) => lines.emit("line", line),
      () => `copying, ${detail}`,
      async () => {
        detail = "3 of 4 bytes";
        await said;
        return "done";
      },
    );

    expect(await said).toEqual([expect.stringMatching(/^… copying, 3 of 4 bytes \([\d.]+ s\)$/)]);
    expect(await result).toBe("done");
  });

  it("writes no line for work that ends at once", async () => {
    const lines: string[] = [];

    await whileSaying(
      (line) => lines.push(line),
      "waiting",
      async () => undefined,
    );

    expect(lines).toEqual([]);
  });
});
