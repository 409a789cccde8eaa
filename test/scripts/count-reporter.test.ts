import { execFile } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

const TESTS = `
  import { it } from "vitest";
  it("runs", () => undefined);
  it.skip("needs root", () => undefined);
`;

/** Runs one passing and one skipped test. */
async function runTests(
  maxSkipped: string | undefined,
): Promise<{ readonly code: unknown; readonly lines: readonly string[] }> {
  const directory = makeTemporaryDirectory();
  mkdirSync(join(directory, "test"));
  writeFileSync(join(directory, "test/some.test.mjs"), TESTS);
  symlinkSync(join(ROOT, "node_modules"), join(directory, "node_modules"));
  const args = [
    ...[join(ROOT, "node_modules/vitest/vitest.mjs"), "run", "--root", directory],
    ...["--reporter", join(ROOT, "test/support/count-reporter.ts")],
  ];
  const env = { ...process.env, MAX_SKIPPED_TESTS: maxSkipped };
  return new Promise((resolve) => {
    execFile(process.execPath, args, { cwd: directory, env }, (error, stdout) => {
      resolve({ code: error?.code ?? 0, lines: stdout.trim().split("\n") });
    });
  });
}

describe("CountReporter", () => {
  it("closes the run with the counts, and allows skipped tests by default", async () => {
    const { code, lines } = await runTests(undefined);

    expect(lines.at(-1)).toBe("1 passed, 0 failed, 1 skipped");
    expect(code).toBe(0);
  });

  it("fails the run and names the skipped tests when there are too many", async () => {
    const { code, lines } = await runTests("0");

    expect(lines.slice(-3)).toEqual([
      "skipped: test/some.test.mjs: needs root",
      "Too many skipped tests: 1, and MAX_SKIPPED_TESTS is 0",
      "1 passed, 0 failed, 1 skipped",
    ]);
    expect(code).toBe(1);
  });

  it("passes when as many tests are skipped as the limit allows", async () => {
    expect((await runTests("1")).code).toBe(0);
  });
});
