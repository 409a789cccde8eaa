import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { DeterminismViolationError } from "@temporalio/workflow";
import { Worker } from "@temporalio/worker";
import { describe, expect, it } from "vitest";
import { WORKFLOW_BUNDLE } from "../support/import-rig.ts";

const HISTORIES = fileURLToPath(new URL("../histories", import.meta.url));

/** The histories that were kept of each version, by `scripts/capture-histories.mjs`. */
const kept = (existsSync(HISTORIES) ? readdirSync(HISTORIES) : []).flatMap((version) =>
  readdirSync(join(HISTORIES, version)).map((name) => ({ version, name })),
);

function readHistory({ version, name }: { readonly version: string; readonly name: string }) {
  return readFileSync(join(HISTORIES, version, name), "utf8");
}

/** Replays a history on today's code. */
async function replay(history: string): Promise<void> {
  const today = { workflowBundle: { codePath: WORKFLOW_BUNDLE } };
  await Worker.runReplayHistory(today, JSON.parse(history));
}

/** The plan of the import in a history, with more fields. */
function withPlan(history: string, fields: object): string {
  const parsed = JSON.parse(history) as {
    events: {
      activityTaskCompletedEventAttributes?: { result?: { payloads: { data?: string }[] } };
    }[];
  };
  const results = parsed.events.flatMap(
    (event) => event.activityTaskCompletedEventAttributes?.result?.payloads ?? [],
  );
  for (const payload of results) {
    const result: unknown = JSON.parse(Buffer.from(payload.data ?? "", "base64").toString() || "0");
    const isPlan = typeof result === "object" && result !== null && "epoch" in result;
    if (!isPlan) continue;
    payload.data = Buffer.from(JSON.stringify({ ...result, ...fields })).toString("base64");
    return JSON.stringify(parsed);
  }
  throw new Error("The history has no plan");
}

describe("the histories of released versions", () => {
  it("are kept: of every outcome of an import, of removals and of a reconciliation", () => {
    const names = kept.filter(({ version }) => version === "0.1.0").map(({ name }) => name);

    expect(names.sort()).toEqual([
      "cancelled.json",
      "copy-removed.json",
      "deleted.json",
      "failed-and-undone.json",
      "paused-and-resumed.json",
      "reconciled.json",
      "store-dropped.json",
      "store-given-up.json",
      "succeeded.json",
    ]);
  });

  it.each(kept)("replay on today's code: $version/$name", async ({ version, name }) => {
    await expect(replay(readHistory({ version, name }))).resolves.toBeUndefined();
  });

  it("replay when a worker of today made the plan, and an earlier one ran its steps", async () => {
    const history = readHistory({ version: "0.1.0", name: "succeeded.json" });

    const planned = withPlan(history, { at_once_bytes: 1024 * 1024 });

    await expect(replay(planned)).resolves.toBeUndefined();
  });

  it("do not replay when today's code would have gone another way", async () => {
    const history = readHistory({ version: "0.1.0", name: "succeeded.json" });
    const another = history.replaceAll('"verifyStaging"', '"judgeStaging"');

    await expect(replay(another)).rejects.toThrow(DeterminismViolationError);
  });
});
