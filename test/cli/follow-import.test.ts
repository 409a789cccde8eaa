import { describe, expect, it, vi } from "vitest";
import { followImport, type Followed } from "../../src/cli/follow-import.ts";
import type { ImportObserver } from "../../src/cli/import-observer.ts";
import { ImageImportClient } from "../../src/client/image-import-client.ts";
import type { AcceptedImport, ImportStatus } from "../../src/workflow/contract.ts";
import { failureOf } from "../support/failure-of.ts";
import { Relay } from "../support/relay.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { PATIENCE } from "../support/patience.ts";

const stack = new SharedStack();

/** Records the statuses and notes of an import. */
class Observed implements ImportObserver {
  readonly notes: string[] = [];
  readonly statuses: ImportStatus[] = [];

  readonly status = (status: ImportStatus): void => {
    this.statuses.push(status);
  };

  readonly note = (text: string): void => {
    this.notes.push(text);
  };

  get last(): ImportStatus | undefined {
    return this.statuses.at(-1);
  }
}

interface Following {
  readonly observed: Observed;
  readonly leave: AbortController;
  readonly followed: Promise<Followed>;
}

function follow(client: ImageImportClient, accepted: AcceptedImport): Following {
  const observed = new Observed();
  const leave = new AbortController();
  const followed = followImport(client, accepted, { observer: observed, signal: leave.signal });
  // A test that fails before it awaits this promise must not report its rejection too.
  followed.catch(() => undefined);
  return { observed, leave, followed };
}

describe("followImport()", () => {
  it("returns the outcome, and reports each status to the end", async () => {
    const client = await stack.connect();
    const accepted = await stack.runningImport();

    const { observed, followed } = follow(client, accepted);
    await vi.waitUntil(() => observed.statuses.length > 0, PATIENCE);
    stack.release(accepted.image_id);

    expect(await followed).toMatchObject({
      kind: "ended",
      outcome: { ...accepted, status: "active", stores: ["slow"] },
    });
    expect(observed.statuses[0]).toMatchObject({
      phase: "storing",
      stores: { slow: { state: "copying", done_bytes: expect.any(Number) as number } },
    });
    expect(observed.last).toMatchObject({ phase: "done", stores: { slow: { state: "stored" } } });
  });

  it("reports that the import is paused, and that it runs again", async () => {
    const client = await stack.connect();
    const accepted = await stack.runningImport();
    const { observed, followed } = follow(client, accepted);

    await client.imports.pause(accepted.image_id);
    await vi.waitUntil(() => observed.last?.pause === "paused", PATIENCE);
    await client.imports.resume(accepted.image_id);
    await vi.waitUntil(() => observed.last?.pause === "running", PATIENCE);
    stack.release(accepted.image_id);

    expect(await followed).toMatchObject({ kind: "ended" });
  });

  it("fails as the import fails", async () => {
    const client = await stack.connect();
    const accepted = await stack.failedImport();

    const { observed, followed } = follow(client, accepted);

    expect(await failureOf(followed)).toMatchObject({
      code: "FormatMismatch",
      message: 'verify: Cannot accept the image as "qcow2": its bytes are "raw"',
    });
    expect(observed.last).toMatchObject({ phase: "failed" });
  });

  it("lets a person leave while the import continues", async () => {
    const client = await stack.connect();
    const accepted = await stack.runningImport();
    const { observed, leave, followed } = follow(client, accepted);
    await vi.waitUntil(() => observed.statuses.length > 0, PATIENCE);

    leave.abort();

    expect(await followed).toEqual({ kind: "left" });
    expect(await client.imports.status(accepted.image_id)).toMatchObject({ phase: "storing" });
  });

  it("leaves at once when the person has left before", async () => {
    const client = await stack.connect();
    const accepted = await stack.runningImport();

    const followed = await followImport(client, accepted, {
      observer: new Observed(),
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
    const { observed, followed } = follow(client, accepted);
    await vi.waitUntil(() => observed.statuses.length > 0, PATIENCE);

    relay.cut();
    stack.release(accepted.image_id);

    expect(await followed).toMatchObject({ kind: "ended", outcome: { status: "active" } });
    expect(observed.last).toMatchObject({ phase: "done" });
    await client.close();
  });
});
