import { z } from "zod";
import type { Leftovers, Reconciled } from "../../workflow/contract.ts";

const failures = z.array(z.string()).describe("places or work that failed, with the reasons");

/** The answer of `reconcile`. */
export const reconciledDocument: z.ZodType<Reconciled> = z
  .strictObject({
    claims: z.int().describe("released: their runs had closed without an undo"),
    copies: z.int().describe("removed"),
    deletions: z.int().describe("of images and of single copies, continued"),
    staged: z.int().describe("uploads, downloads and products that were removed"),
    parts: z.int().describe("private files without an owner that were removed"),
    tasks: z.int().describe("records of tasks that were removed"),
    failures,
  })
  .meta({ id: "reconciled", description: "The answer of `reconcile`" });

/** The answer of `reconcile --dry-run`. */
export const leftoversDocument: z.ZodType<Leftovers> = z
  .strictObject({
    leftovers: z.array(
      z.strictObject({
        kind: z.enum([
          ...(["claim", "copy", "deletion", "copy_removal", "staged", "transform"] as const),
          "part",
        ]),
        image_id: z.guid().nullable(),
        store: z.string().nullable(),
        node: z.string().nullable().describe("the staging volume whose worker does it"),
        name: z.string().nullable().describe("of a part or transform; the kind of staged data"),
      }),
    ),
    left_out: z.int().describe("leftovers that are not listed, because there are too many"),
    expired_tasks: z.int().describe("records of tasks that would be removed"),
    failures,
  })
  .meta({ id: "leftovers", description: "The answer of `reconcile --dry-run`" });
