import { z } from "zod";
import { failedItem } from "./failure-document.ts";

const run = {
  image_id: z.guid(),
  task_id: z.uuid().nullable().describe("null if there was nothing to do, or before acceptance"),
  workflow_id: z.string(),
  run_id: z.uuid(),
};

const outcome = {
  ...run,
  status: z.literal("active"),
  size: z.int().describe("in bytes"),
  virtual_size: z.int().nullable().describe("in bytes"),
  detected_format: z.string().optional().describe("as the verdict recognised the bytes"),
  staged_format: z
    .string()
    .optional()
    .describe("the same of the upload or download, if transforms made other bytes of it"),
  checksum: z.string().describe("MD5"),
  os_hash_algo: z.string(),
  os_hash_value: z.string(),
  stores: z.array(z.string()),
  unstaged: z.boolean().describe("false if the sweeper deletes the staged data later"),
};

const started = {
  ...run,
  status: z.enum(["importing", "waiting"]).describe("waiting: no worker has accepted it yet"),
};

/** The answer of `import` of one source. */
const importOfOne = z
  .union([z.strictObject(outcome), z.strictObject(started)])
  .describe("Finished, or started: with --detach, after Ctrl-C, or if no worker has accepted it");

const source = { source: z.string().describe("the file or URL, without secrets") };

/** The answer of `import`: a list if several sources were named. */
export const importDocument = z
  .union([
    importOfOne,
    z.array(
      z.union([
        z.strictObject({ ...source, ...outcome }),
        z.strictObject({ ...source, ...started }),
        failedItem,
      ]),
    ),
  ])
  .meta({
    id: "import",
    description: "The answer of `import`: a list if several sources were named",
  });
