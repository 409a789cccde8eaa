import { z } from "zod";
import { failedItem, failureDocument, subject } from "./failure-document.ts";
import { importDocument } from "./import-document.ts";
import { copyState, phase, statusDocument } from "./status-document.ts";

const line = {
  time: z.iso.datetime(),
  ...subject,
  source: z.string().optional().describe("the file or URL, of several; without secrets"),
};

const work = {
  work: z.enum([
    ...(["staging", "accepting", "fetching", "verifying", "transforming", "digesting"] as const),
    ...(["copying", "saving", "activating", "unstaging", "undoing"] as const),
  ]),
  store: z.string().optional().describe("of a copy"),
};

const answer = z
  .union([importDocument, statusDocument, z.array(z.union([statusDocument, failedItem]))])
  .meta({ id: "answer", description: "the document that --json writes to stdout" });

/** One line of `--json-lines`. */
export const eventDocument = z
  .discriminatedUnion("event", [
    z.strictObject({ ...line, event: z.literal("created"), name: z.string().nullable() }),
    z.strictObject({
      ...line,
      event: z.literal("accepted"),
      workflow_id: z.string().optional(),
      answer: answer.optional(),
    }),
    z.strictObject({ ...line, event: z.literal("phase"), phase, started_at: z.iso.datetime() }),
    z.strictObject({
      ...line,
      event: z.literal("progress"),
      ...work,
      done_bytes: z.int(),
      total_bytes: z.int().optional(),
      bytes_per_second: z.number().optional(),
    }),
    z.strictObject({
      ...line,
      event: z.literal("attempt_failed"),
      ...work,
      attempt: z.int().describe("number of the attempt that failed"),
      next_attempt_at: z.iso.datetime().optional(),
      message: z.string(),
    }),
    z.strictObject({
      ...line,
      event: z.literal("store"),
      store: z.string(),
      state: copyState,
      method: z.string().optional(),
      started_at: z.iso.datetime().optional(),
      ended_at: z.iso.datetime().optional(),
      message: z.string().optional().describe("the failure of the copy"),
    }),
    z.strictObject({ ...line, event: z.enum(["pausing", "resumed"]) }),
    z.strictObject({
      ...line,
      event: z.literal("paused"),
      paused_at: z.iso.datetime().optional(),
    }),
    z.strictObject({ ...line, event: z.enum(["note", "warning"]), message: z.string() }),
    z.strictObject({
      ...line,
      event: z.enum(["succeeded", "failed", "cancelled", "left", "waiting"]),
      answer: answer.optional(),
      error: failureDocument.optional().describe("the document that --json writes to stderr"),
    }),
  ])
  .describe("One line of --json-lines");
