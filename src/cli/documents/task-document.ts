import { z } from "zod";
import type { TaskView } from "../../client/image-view.ts";
import { failureDetails } from "./failure-document.ts";

/** The answer of `task show`, and one task of `task list`. */
export const taskDocument: z.ZodType<TaskView> = z
  .strictObject({
    id: z.uuid(),
    type: z.string(),
    status: z.string().describe("pending, processing, success or failure"),
    image_id: z.guid(),
    owner: z.string().nullable(),
    workflow_id: z.string(),
    run_id: z.string(),
    request_id: z.string().nullable(),
    user_id: z.string().nullable().describe("the user who requested the import"),
    input: z.record(z.string(), z.unknown()),
    result: z.strictObject({ image_id: z.guid() }).nullable(),
    message: z.string().describe("empty if it did not fail"),
    failure: failureDetails.nullable(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    expires_at: z.iso.datetime().nullable(),
  })
  .meta({ id: "task", description: "The answer of `task show`, and one task of `task list`" });
