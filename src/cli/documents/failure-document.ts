import { z } from "zod";
import type { FailureDetails } from "../../domain/failure-details.ts";

/** A recorded failure, in reports and tasks. */
export const failureDetails = z
  .strictObject({
    code: z.string(),
    hint: z.string().exactOptional(),
    step: z.string().exactOptional(),
    store: z.string().exactOptional(),
  })
  .meta({ id: "recorded_failure" }) satisfies z.ZodType<FailureDetails>;

/** The import that a document is about, as far as it is known. */
export const subject = {
  image_id: z.guid().optional(),
  run_id: z.uuid().optional(),
  task_id: z.uuid().optional(),
};

const shownFailure = {
  code: z.string().describe("stable; docs/failures.md lists the codes"),
  message: z.string(),
  hint: z.string().describe("the way out"),
  step: z.string().optional().describe("the step that failed"),
  store: z.string().optional().describe("the store that the step was about"),
};

/** A failed one of several images or sources, in the answer of a command. */
export const failedItem = z
  .strictObject({
    source: z.string().optional().describe("the file or URL, without secrets"),
    ...subject,
    failure: z.strictObject({ ...shownFailure, exitCode: z.int() }),
  })
  .meta({ id: "failed_item" });

/** An error with `--json`, on stderr. */
export const failureDocument = z
  .strictObject({
    ...shownFailure,
    ...subject,
    image: z
      .enum(["kept", "removed"])
      .optional()
      .describe("the fate of the image that the same command had made"),
  })
  .meta({ id: "failure", description: "An error with --json, on stderr" });
