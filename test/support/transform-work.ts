import { open } from "node:fs/promises";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { TransformWork } from "../../src/transforms/transform.ts";
import { makeTemporaryDirectory } from "./temporary-directory.ts";

/** The work of one transform in a test, and what it leaves. */
export interface WorkInTest extends TransformWork {
  /** The names in the directory of the product. */
  readonly left: () => readonly string[];
  /** The reported progress. */
  readonly reports: readonly (readonly [number, number | undefined])[];
}

/** Work on a file, with a product in a directory of its own. */
export async function workOn(
  sourcePath: string,
  diskFormat = "raw",
  settings: Partial<TransformWork> & { readonly containerFormat?: string } = {},
): Promise<WorkInTest> {
  const directory = makeTemporaryDirectory();
  const source = await open(sourcePath);
  onTestFinished(() => source.close());
  const { containerFormat = "bare", ...rest } = settings;
  const reports: (readonly [number, number | undefined])[] = [];
  return {
    image: { id: "an-image", epoch: 1, diskFormat, containerFormat, roles: [] },
    source,
    sourcePath,
    sizeBytes: (await source.stat()).size,
    productPath: join(directory, "product"),
    maxProductBytes: 1024 ** 4,
    signal: new AbortController().signal,
    report: (doneBytes, totalBytes) => {
      reports.push([doneBytes, totalBytes]);
    },
    ...rest,
    reports,
    left: () => readdirSync(directory),
  };
}
