import { cancellationSignal, cancelled, heartbeat } from "@temporalio/activity";
import { ImportError, type ImportFailureCode } from "../../src/domain/import-failure.ts";

/** A fault of a step. It is called instead of the step, and may call it. */
export type Fault = (step: () => Promise<unknown>) => Promise<unknown>;

/** The step fails before it does anything; whether it is tried again depends on the code. */
export function failsWith(code: ImportFailureCode, message: string): Fault {
  return async () => {
    throw new ImportError(code, message);
  };
}

/** The step takes effect, and its result is lost, as if its worker died just then. */
export const losesItsAnswer: Fault = async (step) => {
  await step();
  throw new Error("The answer was lost");
};

/** Holds a step where the test wants it, until the test lets it go or the step is cancelled. */
export class Hold {
  /** Resolves when a step is held. */
  readonly reached: Promise<void>;
  /** Lets the step continue; one that is not held yet will not be. */
  readonly release: () => void;
  readonly #released: Promise<void>;
  #reach: () => void = () => undefined;

  constructor() {
    this.reached = new Promise((resolve) => {
      this.#reach = resolve;
    });
    let release: () => void = () => undefined;
    this.#released = new Promise((resolve) => {
      release = resolve;
    });
    this.release = release;
  }

  /** Holds the step before it does anything. */
  readonly before: Fault = async (step) => {
    await this.#hold();
    return step();
  };

  /** Holds the step when its work is done and its result not yet returned. */
  readonly after: Fault = async (step) => {
    const result = await step();
    await this.#hold();
    return result;
  };

  /** Holds the step before it does anything, and ends it when it is cancelled. */
  readonly insteadUntilCancelled: Fault = async () => {
    await this.#hold();
    return cancelled();
  };

  /** Holds the step when it has taken effect, and loses its result when it is cancelled. */
  readonly afterUntilCancelled: Fault = async (step) => {
    await step();
    await this.#hold();
    return cancelled();
  };

  /** Holds the step as if its process stood still: not even the end of its run lets it continue. */
  readonly standsStill: Fault = async (step) => {
    this.#reach();
    await this.#released;
    return step();
  };

  async #hold(): Promise<void> {
    const beats = setInterval(() => {
      heartbeat();
    }, 100);
    const signal = cancellationSignal();
    const cancelled = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => {
        resolve();
      });
    });
    this.#reach();
    await Promise.race([this.#released, cancelled]);
    clearInterval(beats);
  }
}
