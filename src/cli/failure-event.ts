import { failureDocument } from "./failure.ts";
import type { EndEvent } from "./import-event.ts";

/** The end of an import that failed, for programs. */
export function failureEvent(failure: unknown): EndEvent {
  const error = failureDocument(failure);
  return { event: error.code === "ImportCancelled" ? "cancelled" : "failed", error };
}
