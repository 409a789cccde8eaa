import type { ImportObserver } from "./import-observer.ts";
import type { Part, ProgressDisplay } from "./progress-display.ts";
import { ShownImport } from "./shown-import.ts";
import type { WorkState } from "./work-state.ts";

/** A display for people. */
export abstract class TextDisplay implements ProgressDisplay {
  abstract bytes(label: string, doneBytes: number, totalBytes: number | undefined): void;
  abstract work(label: string, state: WorkState): void;
  abstract note(text: string): void;
  abstract warn(text: string): void;
  abstract detail(text: string): void;
  abstract stop(): void;

  /** Shows nothing: people see the import in the answer. */
  about(): void {
    return;
  }

  part({ label }: Part): ProgressDisplay {
    return new LabelledDisplay(this, label);
  }

  follow(): ImportObserver {
    return new ShownImport(this);
  }

  /** Shows nothing: people see changes as work and notes. */
  event(): void {
    return;
  }
}

/** The display of one of several imports. */
class LabelledDisplay extends TextDisplay {
  readonly #whole: ProgressDisplay;
  readonly #label: string;

  constructor(whole: ProgressDisplay, label: string) {
    super();
    this.#whole = whole;
    this.#label = label;
  }

  bytes(what: string, doneBytes: number, totalBytes: number | undefined): void {
    this.#whole.bytes(`${this.#label} ${what}`, doneBytes, totalBytes);
  }

  work(what: string, state: WorkState): void {
    this.#whole.work(`${this.#label} ${what}`, state);
  }

  note(text: string): void {
    this.#whole.note(`${this.#label}: ${text}`);
  }

  warn(text: string): void {
    this.#whole.warn(`${this.#label}: ${text}`);
  }

  detail(text: string): void {
    this.#whole.detail(`${this.#label}: ${text}`);
  }

  /** Stops nothing: the displays of the other imports continue. */
  stop(): void {
    return;
  }
}
