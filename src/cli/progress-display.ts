import type { ImportObserver } from "./import-observer.ts";
import type { ImportEvent } from "./import-event.ts";
import type { Paint } from "./paint.ts";
import type { Subject } from "./subject.ts";
import type { WorkState } from "./work-state.ts";

/** One of several imports that a command shows. */
export interface Part {
  /** Put before each line, for people. */
  readonly label: string;
  /** The file or URL, without secrets. */
  readonly source?: string;
  readonly subject?: Subject;
}

/**
 * Shows the progress of a command: to people on stderr, where stdout belongs to the answer; to
 * programs as events.
 */
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
  /** Adds what is known of the import that is shown. */
  about(subject: Subject): void;
  /** The display of one of several imports. */
  part(part: Part): ProgressDisplay;
  /** The display of an import that is followed. */
  follow(): ImportObserver;
  /** Reports a change to programs; people see it as work or a note. */
  event(event: ImportEvent): void;
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
