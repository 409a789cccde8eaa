import { basename } from "node:path";
import { ImportError } from "../domain/import-failure.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { formatDuration } from "../domain/duration.ts";
import { redact } from "../domain/redact.ts";
import { settleEach } from "./at-once.ts";
import { SeveralFailed, shownFailure, type FailedItem } from "./failure.ts";
import { endOfParts, PartAnswer } from "./part-answer.ts";
import { OwnLabels } from "./own-labels.ts";
import { table } from "./render.ts";
import type { Answering, Session } from "./session.ts";

/** The import of one of several sources. */
class SourceImport extends PartAnswer {
  /** Without secrets. */
  readonly source: string;
  #tookMs = 0;

  constructor(session: Session, source: string, label: string) {
    super(session, { label, source });
    this.source = source;
  }

  get tookMs(): number {
    return this.#tookMs;
  }

  override async run<Result>(work: () => Promise<Result>): Promise<Result> {
    const startedMs = performance.now();
    try {
      return await super.run(work);
    } finally {
      this.#tookMs = performance.now() - startedMs;
    }
  }
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
    (source, index) => new SourceImport(session, redact(source, []), labels[index] ?? ""),
  );
  const ends = await settleEach([...parts.entries()], parallel, async ([index, part]) => {
    await part.run(async () => {
      if (signal.aborted) throw new ImportError("Interrupted", "The import was not begun");
      await work(part, sources[index] ?? "");
    });
  });
  const failures = new Map<number, FailedItem>(
    ends.flatMap((end, index) => {
      if (end.status === "fulfilled") return [];
      const { source = "", subject = {} } = parts[index] ?? {};
      return [[index, { source, ...subject, failure: shownFailure(end.reason) }] as const];
    }),
  );
  session.answer(
    parts.map(({ source, answered }, index) => failures.get(index) ?? { source, ...answered }),
    () => summary(parts, failures),
    endOfParts(parts),
  );
  if (failures.size > 0) throw new SeveralFailed([...failures.values()], sources.length);
}

/**
 * The label of each source: the name of its file, with a number if it is not the only one.
 * @internal
 */
export function labelsOf(sources: readonly string[]): string[] {
  const names = sources.map((source) => basename(redact(source, [])));
  const isAlone = (name: string): boolean => names.indexOf(name) === names.lastIndexOf(name);
  const labels = new OwnLabels();
  for (const name of names.filter(isAlone)) labels.take(name);
  return names.map((name, index) =>
    isAlone(name) ? name : labels.take(`${name} (${String(index + 1)})`),
  );
}

function summary(
  parts: readonly SourceImport[],
  failures: ReadonlyMap<number, FailedItem>,
): string {
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
