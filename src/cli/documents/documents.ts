import type { z } from "zod";
import { eventDocument } from "./event-document.ts";
import { failureDocument } from "./failure-document.ts";
import { historyDocument } from "./history-document.ts";
import { imageDocument } from "./image-document.ts";
import { importDocument } from "./import-document.ts";
import { leftoversDocument, reconciledDocument } from "./reconcile-documents.ts";
import { statusDocument } from "./status-document.ts";
import { taskDocument } from "./task-document.ts";

/** The documents of commands for programs, by the names of their files in `docs/schemas`. */
export const DOCUMENTS: Readonly<Record<string, z.ZodType>> = {
  event: eventDocument,
  failure: failureDocument,
  history: historyDocument,
  image: imageDocument,
  import: importDocument,
  leftovers: leftoversDocument,
  reconciled: reconciledDocument,
  status: statusDocument,
  task: taskDocument,
};
