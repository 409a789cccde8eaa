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
  readonly undo: (reason: UndoReason, leftovers: readonly Leftover[]) => Promise<void>;
}

/**
 * The saga list: the undo of each step, registered before the step, because a step can take effect and still fail.
 * Each undo must be safe when its step never began.
 */
export class Compensations {
  readonly #registered: Compensation[] = [];

  /** Remembers how to undo the step that is about to begin. */
  register(name: string, undo: Compensation["undo"]): void {
    this.#registered.push({ name, undo });
  }

  /**
   * Runs all undos, last registered first, shielded from cancellation. One that fails never stops the others.
   *
   * @returns what was left behind
   */
  async run(reason: UndoReason): Promise<Leftover[]> {
    const leftovers: Leftover[] = [];
    await CancellationScope.nonCancellable(async () => {
      for (const { name, undo } of this.#registered.splice(0).reverse()) {
        try {
          await untilDatabaseAnswers(() => undo(reason, leftovers));
        } catch (error) {
          const { type, text } = describeFailure(error);
          log.error("An undo failed, something is left behind", { undo: name, type, text });
          leftovers.push({ undo: name, reason: `${type}: ${text}` });
        }
      }
    });
    return leftovers;
  }
}

/**
 * Runs an undo again that gave up because of the database. The last undo of all, the release of the claim, needs the
 * database too: to go on without the others would leave more behind, and end nothing sooner.
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
