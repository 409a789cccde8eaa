import { ApplicationFailure, CancellationScope, condition, setHandler } from "@temporalio/workflow";
import type { ImportPlan } from "../activities/claim-import.ts";
import type { StoredCopy } from "../activities/store-image.ts";
import type { FailureDetails } from "../domain/failure-details.ts";
import { dropStore } from "./contract.ts";
import { wasStopped } from "./failure-report.ts";
import { shown } from "./message-arguments.ts";

/** The reason for which an import continues without a store. */
export type GivenUp = "failed" | "dropped";

// When all copies are made, the step `confirm` may wait for a store that does not respond. A user
// may then try to drop that store.
const ALL_MADE_HINT =
  "The image becomes active as soon as every store that has a copy works. To continue without one, stop the import (`image-import cancel <image-id>`) and start it with the other stores (`image-import start <image-id> --store NAME`).";

interface Copy {
  /** The scope of this copy alone: its cancellation does not stop other copies. */
  scope?: CancellationScope;
  state: "waiting" | "running" | "stored" | "giving up" | GivenUp | "ended";
  isDropped: boolean;
}

/** The ways in which an import continues without a store. */
export interface GivingUp {
  /** Removes the copy and records that the import continues without the store. */
  readonly giveUp: (store: string, why: GivenUp, failure: unknown) => Promise<void>;
  /** Records that the import continues without a store whose copy has not begun. */
  readonly leaveOut: (store: string) => Promise<void>;
}

/**
 * The copies of one import, which run side by side. If not all stores must succeed, a store that
 * fails is given up, unless it is the last one. A caller may drop a store with the update
 * `dropStore`, from the acceptance until all copies are made.
 */
export class Copies {
  readonly #copies = new Map<string, Copy>();
  #allMustSucceed = true;
  #givingUp: GivingUp | undefined;
  #isOver = false;

  /** Handles `dropStore` from now on: a client may send it before the copies are planned. */
  constructor() {
    setHandler(dropStore, (store: string) => this.#drop(store), {
      description: "Continues without a store: stops and removes its copy",
      validator: (...args: unknown[]) => {
        this.#requireDroppable(storeIn(args));
      },
    });
  }

  /** The import was accepted: plans its copies. */
  plan(plan: Pick<ImportPlan, "stores" | "all_stores_must_succeed">, givingUp: GivingUp): void {
    this.#allMustSucceed = plan.all_stores_must_succeed;
    this.#givingUp = givingUp;
    for (const store of plan.stores) {
      this.#copies.set(store, { state: "waiting", isDropped: false });
    }
  }

  /** The import has failed: from here on no store can be dropped. */
  end(): void {
    this.#isOver = true;
  }

  /**
   * Makes the copy in one store.
   *
   * @returns undefined if the import continues without that store
   */
  async make(store: string, work: () => Promise<StoredCopy>): Promise<StoredCopy | undefined> {
    if (this.#of(store).isDropped) return this.#leftOut(this.#of(store));
    const copy = this.#of(store);
    let failure: unknown;
    try {
      // A child of the current scope: a cancel of all copies stops this one.
      const scope = begin(copy);
      const stored = await scope.run(work);
      copy.state = "stored";
      // While other copies run, a caller may still drop this one. A cancel stops the other copies,
      // and so ends this wait.
      await CancellationScope.nonCancellable(() =>
        condition(() => copy.isDropped || !this.#isAnyToBeMade()),
      );
      if (!copy.isDropped) return stored;
    } catch (error) {
      if (!copy.isDropped && !this.#tolerates(store, error)) {
        copy.state = "ended";
        throw error;
      }
      failure = error;
    }
    copy.state = "giving up";
    const why = copy.isDropped ? "dropped" : "failed";
    try {
      await this.#givingUp?.giveUp(store, why, failure);
      copy.state = why;
      return undefined;
    } finally {
      if (copy.state === "giving up") copy.state = "ended";
    }
  }

  /**
   * Waits until the catalogue has recorded that the import continues without this store. The copy
   * has not begun.
   */
  async #leftOut(copy: Copy): Promise<undefined> {
    await condition(() => copy.state !== "giving up");
    return undefined;
  }

  async #drop(store: string): Promise<{ readonly stores: readonly string[] }> {
    const copy = this.#of(store);
    const isWaiting = copy.state === "waiting";
    copy.isDropped = true;
    if (isWaiting) await this.#leaveOut(store, copy);
    else copy.scope?.cancel();
    await CancellationScope.nonCancellable(() =>
      condition(() => copy.state === "dropped" || copy.state === "ended"),
    );
    if (copy.state === "dropped") return { stores: this.#left() };
    throw refusal(
      `Cannot drop store "${store}": the import failed or was cancelled before the store was dropped`,
    );
  }

  async #leaveOut(store: string, copy: Copy): Promise<void> {
    copy.state = "giving up";
    try {
      await this.#givingUp?.leaveOut(store);
      copy.state = "dropped";
    } catch (error) {
      // The import was cancelled: the caller gets the refusal.
      copy.state = "ended";
      if (!wasStopped(error)) throw error;
    }
  }

  #requireDroppable(store: string): void {
    if (this.#isOver) throw refusal(`Cannot drop store "${store}": the import is being undone`);
    if (this.#copies.size === 0) {
      throw refusal(
        `Cannot drop store "${store}": the import is not accepted yet, so it has no stores`,
      );
    }
    const left = this.#left();
    if (this.#copies.get(store)?.isDropped === true) {
      throw refusal(`Cannot drop store "${store}": it was dropped before`);
    }
    if (!left.includes(store)) {
      throw refusal(
        `Cannot drop store "${store}": the import does not copy to it; it copies to ${left.map((each) => `"${each}"`).join(", ")}`,
      );
    }
    if (!this.#isAnyToBeMade()) {
      throw refusal(`Cannot drop store "${store}": all copies are made`, ALL_MADE_HINT);
    }
    if (left.length > 1) return;
    throw refusal(
      `Cannot drop store "${store}": it is the only store left; cancel the import instead`,
    );
  }

  /** True if the import continues without this store. It never continues without any store. */
  #tolerates(store: string, error: unknown): boolean {
    if (this.#allMustSucceed || wasStopped(error)) return false;
    return this.#left().some((other) => other !== store);
  }

  #left(): string[] {
    return [...this.#copies]
      .filter(
        ([, { state, isDropped }]) =>
          !isDropped && (state === "waiting" || state === "running" || state === "stored"),
      )
      .map(([store]) => store);
  }

  #isAnyToBeMade(): boolean {
    const states = [...this.#copies.values()].map(({ state }) => state);
    return ["waiting", "running", "giving up"].some((each) =>
      states.some((state) => state === each),
    );
  }

  #of(store: string): Copy {
    const copy = this.#copies.get(store);
    if (copy === undefined) throw new Error(`No copy into store "${store}" was planned`);
    return copy;
  }
}

/** The argument of `dropStore`. */
function storeIn(args: readonly unknown[]): string {
  const [store] = args;
  if (typeof store === "string" && args.length === 1) return store;
  throw ApplicationFailure.nonRetryable(
    `Cannot drop store ${shown(args)}: dropStore takes one argument, the name of a store, which is a string`,
    "BadRequest",
  );
}

function begin(copy: Copy): CancellationScope {
  copy.state = "running";
  copy.scope = new CancellationScope();
  return copy.scope;
}

/** @param hint - default: the hint of `ImageConflict` */
function refusal(message: string, hint?: string): ApplicationFailure {
  const code = "ImageConflict";
  const details = hint === undefined ? [] : [{ code, hint } satisfies FailureDetails];
  return ApplicationFailure.nonRetryable(message, code, ...details);
}
