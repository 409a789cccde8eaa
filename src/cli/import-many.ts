import { basename } from "node:path";
import { ImportError } from "../domain/import-failure.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { formatDuration } from "../domain/duration.ts";
import { redact } from "../domain/redact.ts";
import { settleEach } from "./at-once.ts";
import { FailedImport, SeveralFailed, shownFailure, type FailedItem } from "./failure.ts";
import type { ProgressDisplay } from "./progress-display.ts";
import { table } from "./render.ts";
import type { Answering, Session } from "./session.ts";

/** The import of one of several sources: its progress and its answer are parts of the whole. */
class Part implements Answering {
  /** Without secrets. */
  readonly source: string;
  readonly progress: ProgressDisplay;
  #answer: object = {};
  #tookMs = 0;

  constructor(session: Session, source: string, label: string) {
    this.source = source;
    this.progress = labelled(session.progress, label);
  }

  get answered(): object {
    return this.#answer;
  }

  get tookMs(): number {
    return this.#tookMs;
  }

  answer(document: object): void {
    this.#answer = document;
  }

  async run(work: () => Promise<void>): Promise<void> {
    const startedMs = performance.now();
    try {
      await work();
    } finally {
      this.#tookMs = performance.now() - startedMs;
    }
  }
}

function labelled(progress: ProgressDisplay, label: string): ProgressDisplay {
  return {
    bytes: (what, doneBytes, totalBytes) => {
      progress.bytes(`${label} ${what}`, doneBytes, totalBytes);
    },
    work: (what, state) => {
      progress.work(`${label} ${what}`, state);
    },
    note: (text) => {
      progress.note(`${label}: ${text}`);
    },
    warn: (text) => {
      progress.warn(`${label}: ${text}`);
    },
    detail: (text) => {
      progress.detail(`${label}: ${text}`);
    },
    // The others go on.
    stop: () => undefined,
  };
}

/** The imports of several sources. */
export interface ManyImports {
  readonly sources: readonly string[];
  /** The largest number of imports at a time. */
  readonly parallel: number;
  /** Aborted when the user wants to leave: no further import begins. */
  readonly signal: AbortSignal;
  /** Imports one source. */
  readonly work: (part: Answering, source: string) => Promise<void>;
}

/**
 * Imports several sources, a few at a time, and answers with one summary, in the order of the
 * sources. An import that fails does not stop the others.
 *
 * @throws SeveralFailed if some failed
 */
export async function importMany(
  session: Session,
  { sources, parallel, signal, work }: ManyImports,
): Promise<void> {
  const labels = labelsOf(sources);
  const parts = sources.map(
    (source, index) => new Part(session, redact(source, []), labels[index] ?? ""),
  );
  const ends = await settleEach([...parts.entries()], parallel, async ([index, part]) => {
    if (signal.aborted) throw new ImportError("Interrupted", "It was not begun");
    await part.run(() => work(part, sources[index] ?? ""));
  });
  const failures = new Map<number, FailedItem>(
    ends.flatMap((end, index) => {
      if (end.status === "fulfilled") return [];
      const { source = "" } = parts[index] ?? {};
      const about = end.reason instanceof FailedImport ? { image_id: end.reason.image_id } : {};
      return [[index, { source, ...about, failure: shownFailure(end.reason) }] as const];
    }),
  );
  session.answer(
    parts.map(({ source, answered }, index) => failures.get(index) ?? { source, ...answered }),
    () => summary(parts, failures),
  );
  if (failures.size > 0) throw new SeveralFailed([...failures.values()], sources.length);
}

/** The names of files, as far as they differ. */
function labelsOf(sources: readonly string[]): string[] {
  const names = sources.map((source) => basename(redact(source, [])));
  return names.map((name, index) =>
    names.indexOf(name) === names.lastIndexOf(name) ? name : `${name} (${index + 1})`,
  );
}

function summary(parts: readonly Part[], failures: ReadonlyMap<number, FailedItem>): string {
  return table(
    ["SOURCE", "IMAGE", "RESULT", "SIZE", "TIME", "MESSAGE"],
    parts.map((part, index) => {
      const failed = failures.get(index);
      const { image_id: imageId, status, size } = fieldsOf(part.answered);
      return [
        part.source,
        imageId ?? failed?.image_id ?? "-",
        failed === undefined ? (status ?? "-") : "failed",
        size === undefined ? "-" : formatBytes(size),
        formatDuration(part.tookMs),
        failed?.failure.message ?? "",
      ];
    }),
  );
}

function fieldsOf(answered: object): { image_id?: string; status?: string; size?: number } {
  return answered;
}
