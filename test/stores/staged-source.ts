import { open, writeFile } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { onTestFinished } from "vitest";
import { newPartName } from "../../src/bytes/part-name.ts";
import { copySourceOf, storeKey, type CopyOrder } from "../../src/stores/store.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";

/** Staged bytes that are open for reading until the running test has finished. */
export interface StagedSource {
  readonly path: string;
  readonly handle: FileHandle;
  readonly sizeBytes: number;
  readonly crc32: number;
}

/** Puts bytes into staging, in a directory of the running test's own unless another is named. */
export async function stage(
  bytes: Buffer,
  directory = makeTemporaryDirectory(),
): Promise<StagedSource> {
  const path = join(directory, "staged");
  await writeFile(path, bytes);
  const handle = await open(path);
  onTestFinished(() => handle.close());
  return { path, handle, sizeBytes: bytes.length, crc32: crc32(bytes) };
}

/**
 * Orders a copy of staged bytes whose crc32 is unknown, with no part to resume.
 */
export function orderOf(source: StagedSource, fields: Partial<CopyOrder> = {}): CopyOrder {
  const part = newPartName(IMAGE_ID, 1);
  return {
    source: copySourceOf(source.handle, source.path),
    sizeBytes: source.sizeBytes,
    crc32: undefined,
    part,
    key: storeKey(IMAGE_ID, 1),
    mayResume: false,
    signal: new AbortController().signal,
    report: () => undefined,
    ...fields,
  };
}
