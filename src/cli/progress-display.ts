import type { Paint } from "./paint.ts";
import type { WorkState } from "./work-state.ts";

/** Shows the progress of a command on stderr: stdout belongs to the answer. */
export interface ProgressDisplay {
  /**
   * Shows the bytes of a piece of work of this process, with their rate.
   *
   * @param label - names the piece
   * @param totalBytes - undefined if unknown
   */
  bytes(label: string, doneBytes: number, totalBytes: number | undefined): void;
  /** Shows the state of a piece of work. */
  work(label: string, state: WorkState): void;
  /** Writes a line that stays. */
  note(text: string): void;
  /** Writes a line that stays, also with `--quiet`: a user must see it. */
  warn(text: string): void;
  /** Writes a line that stays, with `--verbose` only. */
  detail(text: string): void;
  /** Ends the display; what it shows stays. */
  stop(): void;
}

/** The wishes of the user. */
export interface ProgressWishes {
  /** No progress and no notes. */
  readonly isQuiet: boolean;
  /** Nothing that is drawn again: a line for each change, as in a log. */
  readonly isPlain: boolean;
  readonly isVerbose: boolean;
  readonly paint: Paint;
}
