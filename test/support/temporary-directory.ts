import { chmodSync, mkdtempSync, readdirSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/**
 * A new directory of the running test's own, by its real path, for its user alone (mode 0700);
 * removed when the test has finished, also when the test has taken the right to do that.
 */
export function makeTemporaryDirectory(): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "image-import-test-")));
  onTestFinished(() => {
    try {
      rmSync(path, { recursive: true, force: true });
    } catch {
      makeWritable(path);
      rmSync(path, { recursive: true, force: true });
    }
  });
  return path;
}

function makeWritable(directory: string): void {
  chmodSync(directory, 0o700);
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) makeWritable(join(directory, entry.name));
  }
}
