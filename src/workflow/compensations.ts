import { CancellationScope, log, patched } from "@temporalio/workflow";
import type { TaskFailure } from "../domain/task-failure.ts";
import { describeFailure, hasFailedWith } from "./failure-report.ts";

/** The reason for which an import is undone. */
export interface UndoReason {
  /** The end of the task. */
  readonly task: TaskFailure;
  /** Stores that failed. */
  readonly failedStores: readonly string[];
}

/** An undo that failed and left something behind. */
export interface Leftover {
  readonly undo: string;
  readonly reason: string;
}

/** The undo of a step. It must be safe if its step never began. */
export interface Undo {
  /** Its name in the report of what is left behind. */
  readonly name: string;
  /** Its line in the Web UI. */
  readonly summary: string;
  /**
   * Undos of one group that were registered one after another run side by side. Default: it runs
   * alone.
   */
  readonly group?: string;
  /** Calls one activity with the given options. */
  readonly run: (
    options: Pick<Undo, "summary">,
    reason: UndoReason,
    leftovers: readonly Leftover[],
  ) => Promise<void>;
}

/** The undos of the steps of one import, in the order in which the steps began. */
export class Compensations {
  readonly #registered = new Map<string, Undo>();

  /** Registers the undo of a step that is about to begin. One of the same name is kept. */
  register(undo: Undo): void {
    if (!this.#registered.has(undo.name)) this.#registered.set(undo.name, undo);
  }

  /**
   * Runs all undos, last registered first, shielded from cancellation. A failure of one does not
   * stop the others.
   *
   * @returns the undos that failed
   */
  async run(reason: UndoReason): Promise<Leftover[]> {
    const leftovers: Leftover[] = [];
    const undos = [...this.#registered.values()].reverse();
    this.#registered.clear();
    await CancellationScope.nonCancellable(async () => {
      for (const group of groupsOf(undos)) {
        const left = await Promise.all(group.map((each) => this.#undo(each, reason, leftovers)));
        leftovers.push(...left.filter((each) => each !== undefined));
      }
    });
    return leftovers;
  }

  async #undo(
    { name, summary, run }: Undo,
    reason: UndoReason,
    leftovers: readonly Leftover[],
  ): Promise<Leftover | undefined> {
    try {
      await untilDatabaseAnswers(() => run({ summary }, reason, leftovers));
      return undefined;
    } catch (error) {
      const { code, text } = describeFailure(error);
      log.error("An undo failed, something is left behind", { undo: name, code, text });
      return { undo: name, reason: `${code}: ${text}` };
    }
  }
}

/**
 * Undos in their order, those of one group together: an unreachable store must not delay the undo
 * in another store.
 */
function groupsOf(undos: readonly Undo[]): Undo[][] {
  const groups: Undo[][] = [];
  for (const undo of undos) {
    const last = groups.at(-1);
    const isBeside = undo.group !== undefined && last?.[0]?.group === undo.group;
    // In the first histories of 0.1.0 they run one after another.
    if (isBeside && patched("undos-side-by-side")) last.push(undo);
    else groups.push([undo]);
  }
  return groups;
}

/**
 * Runs an undo until the database answers. The last undo, the release of the claim, needs the
 * database too: to skip the other undos would leave more behind, and the import would not end
 * sooner.
 */
async function untilDatabaseAnswers(undo: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      await undo();
      return;
    } catch (error) {
      if (!hasFailedWith(error, "DatabaseUnavailable")) throw error;
      // In the first histories of 0.1.0 the next undo ran.
      if (!patched("undo-waits-for-database")) throw error;
    }
  }
}
