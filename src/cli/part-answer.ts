import { exitWith } from "./exit-code.ts";
import { failureEvent } from "./failure-event.ts";
import type { End } from "./import-event.ts";
import type { ReportPage } from "./import-report-fields.ts";
import type { Part, ProgressDisplay } from "./progress-display.ts";
import type { Answering, Session } from "./session.ts";
import { nameSubject, type Subject } from "./subject.ts";

/** One of several images or sources: its progress and its answer are parts of the whole. */
export class PartAnswer implements Answering {
  readonly progress: ProgressDisplay;
  readonly page: () => Promise<ReportPage>;
  #subject: Subject;
  #answer: object = {};
  #end: End = "failed";

  constructor(session: Session, part: Part) {
    this.progress = session.progress.part(part);
    this.page = session.page;
    this.#subject = part.subject ?? {};
  }

  get answered(): object {
    return this.#answer;
  }

  /** `failed` until it has answered. */
  get end(): End {
    return this.#end;
  }

  /** The import, as far as it is known. */
  get subject(): Subject {
    return this.#subject;
  }

  about(subject: Subject): void {
    this.#subject = { ...this.#subject, ...subject };
    this.progress.about(subject);
  }

  answer(document: object, _forPeople: () => string, end: End = "succeeded"): void {
    this.#answer = document;
    this.#end = end;
    exitWith(end);
    this.progress.event({ event: end, answer: document });
  }

  /** Runs its work, and reports a failure to programs. */
  async run<Result>(work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      nameSubject(error, this.#subject);
      this.progress.event(failureEvent(error));
      throw error;
    }
  }
}

/** The end of the whole: that of all parts, or the worst. */
export function endOfParts(parts: readonly PartAnswer[]): End {
  const ends = new Set(parts.map(({ end }) => end));
  const order: readonly End[] = ["failed", "cancelled", "left", "waiting", "accepted"];
  return order.find((end) => ends.has(end)) ?? "succeeded";
}
