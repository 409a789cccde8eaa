import type { ImportStatus } from "../workflow/contract.ts";

/** Receives what is known of an import while it is followed. */
export interface ImportObserver {
  /** Takes each status; the last one is that of the end. */
  readonly status: (status: ImportStatus) => void;
  /** Takes a line about the following itself. */
  readonly note: (text: string) => void;
}
