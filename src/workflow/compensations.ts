import { CancellationScope, log, patched } from "@temporalio/workflow";
import { describeFailure, hasFailedWith } from "./failure-report.ts";

/** Why an import is undone, for the undos that record it. */
export interface UndoReason {
  /** The task's message: `Error: <type>: <text>`. */
  readonly message: string;
  /** Stores that failed. */
  readonly failedStores: readonly string[];
}

/** An undo that failed, and so left something behind. */
export interface Leftover {
  readonly undo: string;
  readonly reason: string;
}

interface Compensation {
  readonly name: string;
  /** Those that stand next to each other and have the same group are run side by side. */
  readonly group: string | undefined;
  readonly undo: (reason: UndoReason, leftovers: readonly Leftover[]) => Promise<void>;
}

/**
 * The saga list: the undo of each step, registered before the step, because a step can take effect
 * and still fail. Each undo must be safe when its step never began.
 */
export class Compensations {
  readonly #registered: Compensation[] = [];

  /** Remembers how to undo the step that is about to begin. */
  register(name: string, undo: Compensation["undo"]): void {
    this.#registered.push({ name, group: undefined, undo });
  }

  /**
   * The same for one of several steps that run side by side: none of their undos waits for another
   * one.
   */
  registerBeside(group: string, name: string, undo: Compensation["undo"]): void {
    this.#registered.push({ name, group, undo });
  }

  /**
   * Runs all undos, last registered first, shielded from cancellation. One that fails never stops
   * the others.
   *
   * @returns what was left behind
   */
  async run(reason: UndoReason): Promise<Leftover[]> {
    const leftovers: Leftover[] = [];
    await CancellationScope.nonCancellable(async () => {
      for (const undos of groupsOf(this.#registered.splice(0).reverse())) {
        const left = await Promise.all(undos.map((each) => this.#undo(each, reason, leftovers)));
        leftovers.push(...left.filter((each) => each !== undefined));
      }
    });
    return leftovers;
  }

  async #undo(
    { name, undo }: Compensation,
    reason: UndoReason,
    leftovers: readonly Leftover[],
  ): Promise<Leftover | undefined> {
    try {
      await untilDatabaseAnswers(() => undo(reason, leftovers));
      return undefined;
    } catch (error) {
      const { type, text } = describeFailure(error);
      log.error("An undo failed, something is left behind", { undo: name, type, text });
      return { undo: name, reason: `${type}: ${text}` };
    }
  }
}

/**
 * Undos in their order, those of one group together: a store that is away must not hold up the undo
 * in another one.
 */
function groupsOf(undos: readonly Compensation[]): Compensation[][] {
  const groups: Compensation[][] = [];
  for (const undo of undos) {
    const last = groups.at(-1);
    const isBeside = undo.group !== undefined && last?.[0]?.group === undo.group;
    // Histories of 0.1.0 have them one after the other.
    if (isBeside && patched("undos-side-by-side")) last.push(undo);
    else groups.push([undo]);
  }
  return groups;
}

/**
 * Runs an undo again that gave up because of the database. The last undo of all, the release of the
 * claim, needs the database too: to go on without the others would leave more behind, and end
 * nothing sooner.
 */
async function untilDatabaseAnswers(undo: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      await undo();
      return;
    } catch (error) {
      if (!hasFailedWith(error, "DatabaseUnavailable")) throw error;
      // Histories from before went on to the next undo.
      if (!patched("undo-waits-for-database")) throw error;
    }
  }
}
