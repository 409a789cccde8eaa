import type { SearchAttributeUpdatePair } from "@temporalio/common";
import { patched, upsertSearchAttributes } from "@temporalio/workflow";
import type { ImportPlan } from "../activities/claim-import.ts";
import type { ImportMethod } from "../domain/import-request.ts";
import { cutTo } from "../domain/markdown-text.ts";
import { SEARCH_ATTRIBUTES, type ImportPhase } from "./contract.ts";

/**
 * Phases that usually last milliseconds. They are not search attributes: each change of an
 * attribute costs the server a write.
 */
const BRIEF_PHASES: readonly ImportPhase[] = ["saving", "activating", "unstaging"];

/** The longest value of a search attribute that the server and its database accept. */
const MOST_CHARACTERS = 255;

/** The search attributes of an import. A refused start has none. */
export class ImportAttributes {
  #plan: ImportPlan | undefined;
  readonly #due: SearchAttributeUpdatePair[] = [];
  /** The last phase that is a search attribute. */
  #phase: ImportPhase = "accepting";
  #isShownPaused = false;

  /** The import was accepted. Its attributes are sent with the first phase. */
  accepted(plan: ImportPlan, method: ImportMethod): void {
    this.#plan = plan;
    this.#due.push(
      { key: SEARCH_ATTRIBUTES.imageId, value: plan.image_id },
      { key: SEARCH_ATTRIBUTES.importStores, value: [...plan.stores] },
      { key: SEARCH_ATTRIBUTES.importMethod, value: method },
      ...textAttribute(SEARCH_ATTRIBUTES.imageName, plan.image_name),
      ...textAttribute(SEARCH_ATTRIBUTES.owner, plan.owner),
    );
  }

  /** A phase begins. */
  enter(phase: ImportPhase): void {
    if (this.#plan === undefined || BRIEF_PHASES.includes(phase)) return;
    this.#phase = phase;
    this.#isShownPaused = false;
    this.#upsertPhase(phase);
  }

  /** The state of the pause may have changed. */
  pauseChanged(isPaused: boolean): void {
    if (isPaused === this.#isShownPaused || this.#plan === undefined) return;
    // In the histories of 0.1.0 a paused import keeps its phase.
    if (!patched("paused-is-a-phase")) return;
    this.#isShownPaused = isPaused;
    this.#upsertPhase(isPaused ? "paused" : this.#phase);
  }

  #upsertPhase(value: ImportPhase | "paused"): void {
    this.#upsert([...this.#due.splice(0), { key: SEARCH_ATTRIBUTES.importPhase, value }]);
  }

  /**
   * Upserts the attributes that the server has. An unknown attribute, as after a loss of the
   * server's data, would block the run.
   */
  #upsert(pairs: readonly SearchAttributeUpdatePair[]): void {
    const known = this.#plan?.search_attributes;
    const wanted = pairs.filter(({ key }) => known?.includes(key.name) ?? true);
    if (wanted.length > 0) upsertSearchAttributes(wanted);
  }
}

function textAttribute(
  key: typeof SEARCH_ATTRIBUTES.owner,
  text: string | null | undefined,
): SearchAttributeUpdatePair[] {
  return text == null ? [] : [{ key, value: cutTo(MOST_CHARACTERS, text) }];
}
