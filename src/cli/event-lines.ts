import type { ImportObserver } from "./import-observer.ts";
import type { ImportEvent, ProgressEvent } from "./import-event.ts";
import { ImportEvents } from "./import-events.ts";
import { Paces } from "./paces.ts";
import { printableJson } from "./printable.ts";
import type { Part, ProgressDisplay } from "./progress-display.ts";
import type { Subject } from "./subject.ts";

// Often enough to show progress; the reader has to parse each line.
const PROGRESS_EVERY_MS = 1_000;

/** Facts that each line has. */
interface Facts extends Subject {
  readonly source?: string | undefined;
}

/** The display for programs: a JSON object per line for each change, on stdout. */
export class EventLines implements ProgressDisplay {
  readonly #stream: { write(text: string): unknown };
  /** True to write no progress and no notes. */
  readonly #isQuiet: boolean;
  readonly #paces = new Paces();
  readonly #progress = new Map<string, { readonly doneBytes: number; readonly atMs: number }>();
  #facts: Facts;

  constructor(stream: { write(text: string): unknown }, isQuiet: boolean, facts: Facts = {}) {
    this.#stream = stream;
    this.#isQuiet = isQuiet;
    this.#facts = facts;
  }

  bytes(label: string, doneBytes: number, totalBytes: number | undefined): void {
    const { bytesPerSecond } = this.#paces.moving(label, doneBytes, totalBytes);
    this.event({
      event: "progress",
      work: label,
      done_bytes: doneBytes,
      total_bytes: totalBytes,
      bytes_per_second: bytesPerSecond,
    });
  }

  /** Writes nothing: `bytes` reports the work of this process, and events report all other work. */
  work(): void {
    return;
  }

  note(message: string): void {
    if (!this.#isQuiet) this.event({ event: "note", message });
  }

  warn(message: string): void {
    this.event({ event: "warning", message });
  }

  /** Writes nothing: events have all details. */
  detail(): void {
    return;
  }

  about(subject: Subject): void {
    this.#facts = { ...this.#facts, ...subject };
  }

  part({ source, subject }: Part): ProgressDisplay {
    return new EventLines(this.#stream, this.#isQuiet, { ...this.#facts, source, ...subject });
  }

  follow(): ImportObserver {
    return new ImportEvents(this);
  }

  event(event: ImportEvent): void {
    if (event.event === "progress" && !this.#isDue(event)) return;
    const time = new Date().toISOString();
    const { event: name, ...facts } = event;
    this.#stream.write(`${printableJson({ time, event: name, ...this.#facts, ...facts })}\n`);
  }

  stop(): void {
    this.#progress.clear();
  }

  /**
   * True if a line of progress is to be written: at most one a second for a piece of work, and one
   * for its last bytes if the total is known. No number of bytes is written twice in a row. With
   * `--quiet` no line is written.
   */
  #isDue({ work, store, done_bytes: doneBytes, total_bytes: totalBytes }: ProgressEvent): boolean {
    if (this.#isQuiet) return false;
    const name = `${work} ${store ?? ""}`;
    const last = this.#progress.get(name);
    const atMs = performance.now();
    const isSoon = last !== undefined && atMs - last.atMs < PROGRESS_EVERY_MS;
    if (last?.doneBytes === doneBytes || (isSoon && doneBytes !== totalBytes)) return false;
    this.#progress.set(name, { doneBytes, atMs });
    return true;
  }
}
