import { Pace } from "../domain/pace.ts";
import type { WorkState } from "./work-state.ts";

type Moving = WorkState & { readonly kind: "moving" };

/** The pace of each piece of work of this process. */
export class Paces {
  readonly #paces = new Map<string, Pace>();

  /** The state of a piece of work whose bytes have moved. */
  moving(label: string, doneBytes: number, totalBytes: number | undefined): Moving {
    const pace = this.#paces.get(label) ?? new Pace();
    this.#paces.set(label, pace);
    pace.observe(doneBytes, performance.now());
    return { kind: "moving", doneBytes, totalBytes, bytesPerSecond: pace.bytesPerSecond };
  }
}
