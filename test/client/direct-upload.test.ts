import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { finishDirectUpload, type FinishTools } from "../../src/client/direct-upload.ts";
import type { Database } from "../../src/db/connect.ts";
import {
  ImportError,
  UnlistedFailure,
  type ImportFailureCode,
} from "../../src/domain/import-failure.ts";

/** The failure of a claim. */
function refusing(code: ImportFailureCode): ImportError {
  return new ImportError(code, "it may not be", { step: "claim" });
}

/**
 * Finishes an upload whose import cannot be started, or fails after its acceptance.
 *
 * @returns the images whose upload was removed
 */
async function removedAfter(failed: "start" | "wait", failure: Error): Promise<string[]> {
  const imageId = randomUUID();
  const removed: string[] = [];
  const fail = async (): Promise<never> => {
    throw failure;
  };
  const accept: FinishTools["start"] = async () => {
    return { image_id: imageId, task_id: "task", workflow_id: "workflow", run_id: "run" };
  };
  const tools: FinishTools = {
    catalogue: { query: async () => ({ request_id: "req-1" }) } as unknown as Database,
    start: failed === "start" ? fail : accept,
    wait: fail,
    unstage: async (id) => {
      removed.push(id === imageId ? "it" : id);
    },
  };
  await expect(finishDirectUpload(tools, imageId, {})).rejects.toBe(failure);
  return removed;
}

describe("finishDirectUpload()", () => {
  it.each([
    ["the start is refused", "start", refusing("QuotaExceeded")],
    ["the import is cancelled", "wait", new ImportError("ImportCancelled", "it was")],
    ["the bytes are bad", "wait", new ImportError("UnsafeImage", "a", { step: "verify" })],
    ["a step fails with a bug", "wait", new UnlistedFailure("TypeError", "a", { step: "verify" })],
  ] as const)("removes the upload when %s", async (_, failed, failure) => {
    expect(await removedAfter(failed, failure)).toEqual(["it"]);
  });

  it.each([
    ["a worker has no staging area", "start", refusing("BadTaskConfiguration")],
    ["the tables are of another version", "start", refusing("BadConfiguration")],
    [
      "the claim fails with a bug",
      "start",
      new UnlistedFailure("TypeError", "a", { step: "claim" }),
    ],
    ["Temporal refuses this process", "start", new ImportError("BadConfiguration", "it may not")],
    ["this process fails with a bug", "start", new TypeError("it is not a function")],
    ["the run is terminated", "wait", new ImportError("ImportAbandoned", "it was terminated")],
    ["Temporal has lost the run", "wait", new ImportError("ImportNotFound", "it knows none")],
  ] as const)("leaves the upload to a worker when %s", async (_, failed, failure) => {
    expect(await removedAfter(failed, failure)).toEqual([]);
  });
});
