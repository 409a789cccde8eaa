import { describe, expect, it, vi } from "vitest";
import { followImport, type Followed } from "../../src/cli/follow-import.ts";
import type { ProgressDisplay } from "../../src/cli/progress-display.ts";
import { ImageImportClient } from "../../src/client/image-import-client.ts";
import type { AcceptedImport, ImportStatus, StoreProgress } from "../../src/workflow/contract.ts";
import { failureOf } from "../support/failure-of.ts";
import { Relay } from "../support/relay.ts";
import { HELD_BYTES, SharedStack } from "../support/shared-stack.ts";
import { PATIENCE } from "../support/patience.ts";

const stack = new SharedStack();

/** Records the progress that a person would see. */
class ToldProgress implements ProgressDisplay {
  readonly notes: string[] = [];
  readonly amounts: { label: string; doneBytes: number; totalBytes: number | undefined }[] = [];

  bytes(label: string, doneBytes: number, totalBytes: number | undefined): void {
    this.amounts.push({ label, doneBytes, totalBytes });
  }

  note(text: string): void {
    this.notes.push(text.replace(/\d[\d.]* (ms|s)$/, "…"));
  }

  stop(): void {
    // The command ends its progress, not the follower.
    throw new Error("stopped");
  }
}

interface Following {
  readonly progress: ToldProgress;
  readonly leave: AbortController;
  readonly followed: Promise<Followed>;
}

function follow(client: ImageImportClient, accepted: AcceptedImport): Following {
  const progress = new ToldProgress();
  const leave = new AbortController();
  const followed = followImport(client, accepted, { progress, signal: leave.signal });
  // A test that fails before it awaits this promise must not report its rejection too.
  followed.catch(() => undefined);
  return { progress, leave, followed };
}

describe("followImport()", () => {
  it("returns the outcome, and reports each phase that ended", async () => {
    const client = await stack.connect();
    const accepted = await stack.runningImport();

    const { progress, followed } = follow(client, accepted);
    await vi.waitUntil(() => progress.notes.length > 0, PATIENCE);
    stack.release(accepted.image_id);

    expect(await followed).toMatchObject({
      kind: "ended",
      outcome: { ...accepted, status: "active", stores: ["slow"] },
    });
    expect(progress.notes).toEqual([
      "accepting  …",
      "verifying  …",
      "storing    …",
      "saving     …",
      "activating …",
      "unstaging  …",
    ]);
  });

  it("reports the bytes of a copy, to its last byte", async () => {
    const client = await stack.connect();
    const accepted = await stack.runningImport();

    const { progress, followed } = follow(client, accepted);
    await vi.waitUntil(() => progress.amounts.length > 0, PATIENCE);
    stack.release(accepted.image_id);
    await followed;

    const [first] = progress.amounts;
    expect(first?.doneBytes).toBeLessThan(HELD_BYTES);
    expect(new Set(progress.amounts.map(({ label }) => label))).toEqual(new Set(["store slow"]));
    expect(progress.amounts.at(-1)).toEqual({
      label: "store slow",
      doneBytes: HELD_BYTES,
      totalBytes: HELD_BYTES,
    });
  });

  it("reports no bytes of a copy that ends at once", async () => {
    const client = await stack.connect();
    const imageId = await stack.stagedImage(HELD_BYTES);
    const accepted = await client.imports.start(imageId, { stores: ["local"] });

    const { progress, followed } = follow(client, accepted);
    await followed;

    expect(progress.amounts).toEqual([]);
  });

  it("reports that the import is paused, and that it runs again", async () => {
    const client = await stack.connect();
    const accepted = await stack.runningImport();
    const { progress, followed } = follow(client, accepted);

    await client.imports.pause(accepted.image_id);
    await vi.waitUntil(() => progress.notes.includes("paused"), PATIENCE);
    await client.imports.resume(accepted.image_id);
    await vi.waitUntil(() => progress.notes.includes("running"), PATIENCE);
    stack.release(accepted.image_id);

    expect(await followed).toMatchObject({ kind: "ended" });
    expect(progress.notes.slice(progress.notes.indexOf("paused"))).toEqual([
      "paused",
      "running",
      "storing    …",
      "saving     …",
      "activating …",
      "unstaging  …",
    ]);
  });

  it("reports each reason for a retry once", async () => {
    const client = await stack.connect();
    const accepted = await stack.runningImport();
    const status = await client.imports.status(accepted.image_id);
    const inSlow = (slow: StoreProgress): ImportStatus => ({ ...status, stores: { slow } });
    vi.spyOn(client.imports, "watch").mockImplementation(async function* () {
      yield { ...status, attempt: 2, last_failure: "no answer" };
      yield { ...status, attempt: 3, last_failure: "no answer" };
      yield inSlow({ state: "copying", attempt: 1 });
      yield inSlow({ state: "copying", attempt: 2, last_failure: "it is unreachable" });
      yield inSlow({ state: "copying", attempt: 3, last_failure: "no answer" });
      yield inSlow({ state: "failed", last_failure: "it is full" });
    });

    const { progress, followed } = follow(client, accepted);
    stack.release(accepted.image_id);
    await followed;

    expect(progress.notes.filter((note) => note.includes("retried"))).toEqual([
      "storing is retried after: no answer",
      "store slow is retried after: it is unreachable",
      "store slow is retried after: no answer",
    ]);
  });

  it("fails as the import fails", async () => {
    const client = await stack.connect();
    const accepted = await stack.failedImport();

    const { progress, followed } = follow(client, accepted);

    expect(await failureOf(followed)).toMatchObject({
      code: "FormatMismatch",
      message: 'verify: Cannot accept the image as "qcow2": its bytes are "raw"',
    });
    expect(progress.notes).toEqual(["accepting  …", "verifying  …", "undoing    …"]);
  });

  it("lets a person leave while the import continues", async () => {
    const client = await stack.connect();
    const accepted = await stack.runningImport();
    const { progress, leave, followed } = follow(client, accepted);
    await vi.waitUntil(() => progress.amounts.length > 0, PATIENCE);

    leave.abort();

    expect(await followed).toEqual({ kind: "left" });
    expect(await client.imports.status(accepted.image_id)).toMatchObject({ phase: "storing" });
  });

  it("leaves at once when the person has left before", async () => {
    const client = await stack.connect();
    const accepted = await stack.runningImport();
    const progress = new ToldProgress();

    const followed = await followImport(client, accepted, {
      progress,
      signal: AbortSignal.abort(),
    });

    expect(followed).toEqual({ kind: "left" });
  });

  it("continues when its connection breaks", async () => {
    const temporalUrl = `tcp://${stack.file.temporal_address}`;
    const relay = await Relay.open(temporalUrl);
    const address = new URL(relay.through(temporalUrl)).host;
    const client = await ImageImportClient.connect({ temporal: { address } });
    const accepted = await stack.runningImport();
    const { progress, followed } = follow(client, accepted);
    await vi.waitUntil(() => progress.amounts.length > 0, PATIENCE);

    relay.cut();
    stack.release(accepted.image_id);

    expect(await followed).toMatchObject({ kind: "ended", outcome: { status: "active" } });
    expect(progress.notes).toContain("unstaging  …");
    await client.close();
  });
});
