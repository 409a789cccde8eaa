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
  state: "running" | "stored" | "giving up" | GivenUp | "ended";
  isDropped: boolean;
}

/** How to go on without a store: remove what is left there, and record it. */
type GiveUp = (store: string, why: GivenUp, failure: unknown) => Promise<void>;

/**
 * The copies of one import, side by side. Where not all stores must succeed, one that fails is given up as long as
 * another is left; a person may drop one with the update `dropStore`.
 */
export class Copies {
  readonly #copies = new Map<string, Copy>();
  readonly #allMustSucceed: boolean;
  readonly #giveUp: GiveUp;

  constructor(plan: ImportPlan, giveUp: GiveUp) {
    this.#allMustSucceed = plan.all_stores_must_succeed;
    this.#giveUp = giveUp;
    for (const store of plan.stores) {
      this.#copies.set(store, { state: "running", isDropped: false });
    }
    setHandler(dropStore, (store: string) => this.#drop(store), {
      description: "Goes on without a store: its copy is stopped and removed",
      validator: (store: string) => {
        this.#requireDroppable(store);
      },
    });
  }

  /**
   * Makes the copy in one store.
   *
   * @returns undefined when the import goes on without it
   */
  async make(store: string, work: () => Promise<StoredCopy>): Promise<StoredCopy | undefined> {
    const copy = this.#of(store);
    let failure: unknown;
    try {
      // A child of the scope in which it is made, so that whatever stops all copies stops this one.
      copy.scope = new CancellationScope();
      const stored = await copy.scope.run(work);
      copy.state = "stored";
      // As long as other copies run, a person may still drop this one. It is they that a cancel stops.
      await CancellationScope.nonCancellable(() =>
        condition(() => copy.isDropped || !this.#isAnyRunning()),
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
      await this.#giveUp(store, why, failure);
      copy.state = why;
      return undefined;
    } finally {
      if (copy.state === "giving up") copy.state = "ended";
    }
  }

  async #drop(store: string): Promise<{ readonly stores: readonly string[] }> {
    const copy = this.#of(store);
    copy.isDropped = true;
    copy.scope?.cancel();
    await CancellationScope.nonCancellable(() =>
      condition(() => copy.state === "dropped" || copy.state === "ended"),
    );
    if (copy.state === "dropped") return { stores: this.#left() };
    throw refusal(`The import failed before store "${store}" was dropped`);
  }

  #requireDroppable(store: string): void {
    const copy = this.#copies.get(store);
    const left = this.#left();
    if (copy === undefined || copy.isDropped || !left.includes(store)) {
      throw refusal(
        `Cannot drop store "${store}": the import does not copy to it; it copies to ${left.map((each) => `"${each}"`).join(", ")}`,
      );
    }
    if (!this.#isAnyRunning()) {
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
        ([, { state, isDropped }]) => !isDropped && (state === "running" || state === "stored"),
      )
      .map(([store]) => store);
  }

  #isAnyRunning(): boolean {
    const states = [...this.#copies.values()].map(({ state }) => state);
    return states.includes("running") || states.includes("giving up");
  }

  #of(store: string): Copy {
    const copy = this.#copies.get(store);
    if (copy === undefined) throw new Error(`No copy into store "${store}" was planned`);
    return copy;
  }
}

function refusal(message: string): ApplicationFailure {
  return ApplicationFailure.nonRetryable(message, "ImageConflict");
}
