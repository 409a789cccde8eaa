import { z } from "zod";
import type { HistoryEntry } from "../../domain/image-history.ts";
import { IMPORT_METHODS } from "../../domain/import-request.ts";

const stores = z.array(z.strictObject({ store: z.string(), url: z.string() }));

const bytes = z.strictObject({
  size: z.int().nullable().describe("in bytes"),
  checksum: z.string().nullable().describe("MD5"),
  os_hash_algo: z.string().nullable(),
  os_hash_value: z.string().nullable(),
});

const at = z.iso.datetime().describe("time of the change");

const request = {
  at,
  task_id: z.uuid().describe("its record may be gone"),
  run_id: z.string().nullable(),
  request_id: z.string().nullable(),
  owner: z.string().nullable(),
  user_id: z.string().nullable().describe("the user who requested it"),
  roles: z.array(z.string()).describe("of the requester"),
  method: z.enum(IMPORT_METHODS).nullable(),
  source: z.string().nullable().describe("URL without secrets, or staging URI; null: an upload"),
  expected_checksum: z.string().nullable().describe("that the requester gave, and that is right"),
  accepted_at: z.iso.datetime().nullable(),
  version: z.string().nullable().describe("of the worker that published it"),
  stores,
};

/** The answer of `image history`. */
export const historyDocument: z.ZodType<HistoryEntry[]> = z
  .array(
    z.discriminatedUnion("event", [
      z.strictObject({
        event: z.literal("imported"),
        ...request,
        name: z.string().nullable().describe("of the image at that time"),
        disk_format: z.string().nullable(),
        container_format: z.string().nullable(),
        virtual_size: z.int().nullable().describe("in bytes"),
        before: bytes.nullable().describe("the upload or download, before transforms"),
        after: bytes.describe("the image"),
        verdict: z
          .strictObject({
            detected_format: z.string(),
            checks: z.record(z.string(), z.string()),
          })
          .nullable(),
        transforms: z
          .array(
            z.strictObject({
              name: z.string(),
              has_product: z.boolean().describe("false if it left the bytes as they were"),
              disk_format: z.string().describe("after it"),
              tool: z.string().nullable().describe("the program, with its version"),
            }),
          )
          .nullable()
          .describe("in their order; null: unknown"),
      }),
      z.strictObject({ event: z.literal("copied"), ...request }),
      z.strictObject({ event: z.literal("copy_removed"), at, stores }),
      z.strictObject({ event: z.enum(["deactivated", "reactivated"]), at }),
    ]),
  )
  .meta({ id: "history", description: "The answer of `image history`, the oldest event first" });
