import type { ImportStatus } from "../workflow/contract.ts";

/** Receives the status of an import while a command follows it. */
export interface ImportObserver {
  /** Takes each status; the last one is that of the end. */
  readonly status: (status: ImportStatus) => void;
  /** Takes a line for the user, such as that no worker answers. */
  readonly note: (text: string) => void;
}
