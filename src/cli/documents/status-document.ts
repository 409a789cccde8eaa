import { z } from "zod";
import type { ImportReport } from "../../client/import-report.ts";
import type { ImportPhase, ImportStatus, StoreProgress } from "../../workflow/contract.ts";
import { failureDetails } from "./failure-document.ts";
import { taskDocument } from "./task-document.ts";

const PHASES = [
  ...(["accepting", "fetching", "verifying", "transforming", "storing", "saving"] as const),
  ...(["activating", "unstaging", "undoing", "done", "failed", "refused", "cancelled"] as const),
] as const satisfies readonly ImportPhase[];

/** A phase of an import. */
export const phase = z.enum(PHASES).meta({ id: "phase" });

/** The state of the copy in one store. */
export const copyState = z.enum([
  ...(["waiting", "copying", "stored", "failed", "stopped", "dropped", "removed"] as const),
]);

const attempts = {
  bytes_per_second: z.number().exactOptional().describe("over the last ten seconds"),
  attempt: z.int().exactOptional().describe("number of the attempt that runs or runs next"),
  next_attempt_at: z.iso.datetime().exactOptional(),
  last_failure: z.string().exactOptional(),
};

const storeProgress = z.strictObject({
  state: copyState,
  method: z.string().exactOptional(),
  started_at: z.iso.datetime().exactOptional(),
  ended_at: z.iso.datetime().exactOptional(),
  done_bytes: z.int().exactOptional(),
  ...attempts,
}) satisfies z.ZodType<StoreProgress>;

const importStatus = z.strictObject({
  image_id: z.guid(),
  task_id: z.uuid().nullable(),
  method: z.enum(["glance-direct", "web-download", "copy-image"]),
  phase,
  pause: z.enum(["running", "pausing after this step", "paused"]),
  paused_at: z.iso.datetime().exactOptional(),
  size: z.int().nullable(),
  stores: z.record(z.string(), storeProgress),
  phases: z.array(
    z.strictObject({
      phase,
      started_at: z.iso.datetime(),
      ended_at: z.iso.datetime().nullable(),
    }),
  ),
  detected_format: z.string().nullable(),
  checks: z.record(z.string(), z.string()),
  message: z.string().nullable(),
  failure: failureDetails.exactOptional(),
  done_bytes: z.int().exactOptional(),
  total_bytes: z.int().exactOptional(),
  ...attempts,
}) satisfies z.ZodType<ImportStatus>;

/** The answer of `status` for one image, and that of `watch`. */
export const statusDocument: z.ZodType<ImportReport> = z
  .strictObject({
    image_id: z.guid(),
    status: z.string().nullable().describe("of the image; null without a catalogue"),
    state: z.enum([
      ...(["waiting", "running", "succeeded", "failed", "refused"] as const),
      ...(["abandoned", "unknown"] as const),
    ]),
    stores: z.array(z.string()).nullable().describe("that have the image now"),
    task: taskDocument.nullable(),
    run_id: z.string().nullable(),
    live: importStatus.nullable().describe("the status of its run"),
    message: z.string().nullable(),
    failure: failureDetails.nullable(),
    cancelled_by: z
      .string()
      .exactOptional()
      .describe("who cancelled it; absent if Temporal does not know"),
  })
  .meta({ id: "status", description: "The answer of `status` for one image, and that of `watch`" });
