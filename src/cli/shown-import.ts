import type { ImportStatus, PhaseTime } from "../workflow/contract.ts";
import type { ImportObserver } from "./import-observer.ts";
import { DIGESTING, isEnd, workOf } from "./import-work.ts";
import type { ProgressDisplay } from "./progress-display.ts";
import type { Work, WorkState } from "./work-state.ts";

const PAUSES: Readonly<Record<ImportStatus["pause"], string>> = {
  running: "resumed",
  "pausing after this step": "pausing after this step",
  paused: "paused",
};

/** Shows an import to people: each phase that has ended, and the work of the running one. */
export class ShownImport implements ImportObserver {
  readonly #progress: ProgressDisplay;
  /** The last state of each piece of work. */
  readonly #shown = new Map<string, WorkState>();
  #phases = 0;
  #pause: ImportStatus["pause"] = "running";

  constructor(progress: ProgressDisplay) {
    this.#progress = progress;
  }

  readonly status = (status: ImportStatus): void => {
    const works = workOf(status).filter(hasBegun);
    this.#endDigest(works);
    // A reset runs some phases again.
    if (status.phases.length < this.#phases) this.#phases = 0;
    const ended = status.phases.filter(hasEnded).slice(this.#phases);
    this.#phases += ended.length;
    const stored = ended.findIndex(({ phase }) => phase === "storing");
    const before = stored === -1 ? ended : ended.slice(0, stored);
    // The work is shown before the end of `storing`: the copies ended before their phase did.
    for (const phase of before) this.#showPhase(phase);
    for (const work of works) this.#show(work);
    for (const phase of ended.slice(before.length)) this.#showPhase(phase);
    if (status.pause !== this.#pause) this.note(PAUSES[status.pause]);
    this.#pause = status.pause;
  };

  readonly note = (text: string): void => {
    this.#progress.note(text);
  };

  #show({ label, state }: Work): void {
    const before = this.#shown.get(label);
    this.#shown.set(label, state);
    const isKnown =
      state.kind === "ended" && before?.kind === "ended" && state.text === before.text;
    if (!isKnown) this.#progress.work(label, state);
  }

  #showPhase({ phase, started_at: startedAt, ended_at: endedAt }: PhaseTime): void {
    const tookMs = Date.parse(endedAt ?? startedAt) - Date.parse(startedAt);
    this.#shown.delete(phase);
    const state = { kind: "ended", text: "", isFailed: false, tookMs } as const;
    this.#progress.work(phase, state);
  }

  /**
   * Shows the end of the digest step, which has no phase: it has ended once it reports no bytes.
   */
  #endDigest(works: readonly Work[]): void {
    const before = this.#shown.get(DIGESTING);
    const isOver = works.every(({ label }) => label !== DIGESTING);
    if (before === undefined || before.kind === "ended" || !isOver) return;
    const state = { kind: "ended", text: "done", isFailed: false, tookMs: undefined } as const;
    this.#show({ label: DIGESTING, state });
  }
}

/** False for a copy that waits for earlier phases: it has no line yet. */
function hasBegun({ state }: Work): boolean {
  return state.kind !== "still" || state.text !== "waiting";
}

/**
 * True for a phase that has ended. The last phase of an import has no line: it takes no time, and
 * the answer of the command names it.
 */
function hasEnded({ phase, ended_at: endedAt }: PhaseTime): boolean {
  return endedAt !== null && !isEnd(phase);
}
