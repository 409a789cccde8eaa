import { ApplicationFailure, CancellationScope, condition, setHandler } from "@temporalio/workflow";
import type { ImportPlan } from "../activities/claim-import.ts";
import type { StoredCopy } from "../activities/store-image.ts";
import { dropStore } from "./contract.ts";
import { wasStopped } from "./failure-report.ts";

/** Why an import goes on without a store. */
export type GivenUp = "failed" | "dropped";

interface Copy {
  /** Where it is made; cancelling it stops this copy alone. */
  scope?: CancellationScope;
  state: "waiting" | "running" | "stored" | "giving up" | GivenUp | "ended";
  isDropped: boolean;
}

/** The ways in which an import continues without a store. */
export interface GivingUp {
  /** Removes what the import has in the store, and records that it goes on without it. */
  readonly giveUp: (store: string, why: GivenUp, failure: unknown) => Promise<void>;
  /** Records that the import goes on without a store to which it has not begun to copy. */
  readonly leaveOut: (store: string) => Promise<void>;
}

/**
 * The copies of one import, side by side. Where not all stores must succeed, one that fails is
 * given up as long as another is left; a person may drop one with the update `dropStore`, from the
 * acceptance until all copies are made.
 */
export class Copies {
  readonly #copies = new Map<string, Copy>();
  #allMustSucceed = true;
  #givingUp: GivingUp | undefined;
  #isOver = false;

  /**
   * Answers `dropStore` from now on: a client may ask before it is known which copies there are.
   */
  constructor() {
    setHandler(dropStore, (store: string) => this.#drop(store), {
      description: "Goes on without a store: its copy is stopped and removed",
      validator: (store: unknown) => {
        this.#requireDroppable(store);
      },
    });
  }

  /** The import was accepted, and these copies are to be made. */
  plan(plan: Pick<ImportPlan, "stores" | "all_stores_must_succeed">, givingUp: GivingUp): void {
    this.#allMustSucceed = plan.all_stores_must_succeed;
    this.#givingUp = givingUp;
    for (const store of plan.stores) {
      this.#copies.set(store, { state: "waiting", isDropped: false });
    }
  }

  /** The import has failed: no store can be dropped from here on. */
  end(): void {
    this.#isOver = true;
  }

  /**
   * Makes the copy in one store.
   *
   * @returns undefined when the import goes on without it
   */
  async make(store: string, work: () => Promise<StoredCopy>): Promise<StoredCopy | undefined> {
    if (this.#of(store).isDropped) return this.#leftOut(this.#of(store));
    const copy = this.#of(store);
    let failure: unknown;
    try {
      // A child of the scope in which it is made, so that whatever stops all copies stops this one.
      const scope = begin(copy);
      const stored = await scope.run(work);
      copy.state = "stored";
      // As long as other copies run, a person may still drop this one. It is they that a cancel
      // stops.
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
   * Waits until it is recorded that the import goes on without a store that was dropped before its
   * copy began.
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
    throw refusal(`The import failed before store "${store}" was dropped`);
  }

  async #leaveOut(store: string, copy: Copy): Promise<void> {
    copy.state = "giving up";
    try {
      await this.#givingUp?.leaveOut(store);
      copy.state = "dropped";
    } catch (error) {
      // Cancelled with the import, which ends by that: the caller gets the refusal.
      copy.state = "ended";
      if (!wasStopped(error)) throw error;
    }
  }

  #requireDroppable(store: unknown): void {
    if (typeof store !== "string") {
      throw ApplicationFailure.nonRetryable(
        `Cannot drop a store named by a value of type ${typeof store}: its name must be a text`,
        "BadRequest",
      );
    }
    if (this.#isOver) throw refusal(`Cannot drop store "${store}": the import is being undone`);
    if (this.#copies.size === 0) {
      throw refusal(
        `Cannot drop store "${store}": the import is not accepted yet, so it has no stores`,
      );
    }
    const left = this.#left();
    if (this.#copies.get(store)?.isDropped === true) {
      throw refusal(
        `Cannot drop store "${store}": the import does not copy to it any more, it was dropped before`,
      );
    }
    if (!left.includes(store)) {
      throw refusal(
        `Cannot drop store "${store}": the import does not copy to it; it copies to ${left.map((each) => `"${each}"`).join(", ")}`,
      );
    }
    if (!this.#isAnyToBeMade()) {
      throw refusal(`Cannot drop store "${store}": all copies are made`);
    }
    if (left.length > 1) return;
    throw refusal(
      `Cannot drop store "${store}": it is the only one left; cancel the import instead`,
    );
  }

  /** The last one left decides: an image in no store is a failed import. */
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

function begin(copy: Copy): CancellationScope {
  copy.state = "running";
  copy.scope = new CancellationScope();
  return copy.scope;
}

function refusal(message: string): ApplicationFailure {
  return ApplicationFailure.nonRetryable(message, "ImageConflict");
}
