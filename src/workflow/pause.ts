import { CancellationScope, condition, setHandler } from "@temporalio/workflow";
import { pauseImport, resumeImport } from "./contract.ts";
import { wasStopped } from "./failure-report.ts";
import { given } from "./message-arguments.ts";

/**
 * Pause and resume. A pause cancels the running byte steps: their parts stay, no undo runs, and a
 * resume runs the same steps again.
 */
export class Pause {
  #isWanted = false;
  #wantedAt: string | undefined;
  readonly #running = new Set<CancellationScope>();
  readonly #onChange: () => void;
  #waiting = 0;
  #shortSteps = 0;
  #isOver = false;

  /**
   * @param onChange - called after each possible change of the state
   * @param onArguments - called with the arguments of each signal; it should have none
   */
  constructor(
    onChange: () => void,
    onArguments: (signal: string, args: readonly unknown[]) => void,
  ) {
    this.#onChange = onChange;
    setHandler(
      pauseImport,
      (...args) => {
        onArguments("pauseImport", given(args));
        if (!this.#isWanted) this.#wantedAt = new Date().toISOString();
        this.#isWanted = true;
        for (const scope of this.#running) scope.cancel();
        onChange();
      },
      { description: "Stops the byte steps within seconds and keeps their parts" },
    );
    setHandler(
      resumeImport,
      (...args) => {
        onArguments("resumeImport", given(args));
        this.#isWanted = false;
        onChange();
      },
      { description: "Continues from where the pause stopped" },
    );
  }

  /** The state of the pause, for the status. */
  get state(): "running" | "pausing after this step" | "paused" {
    if (!this.#isWanted || this.#isOver) return "running";
    const isStill = this.#waiting > 0 && this.#running.size === 0 && this.#shortSteps === 0;
    return isStill ? "paused" : "pausing after this step";
  }

  /** Time of the request to pause; undefined while the import runs. */
  get since(): string | undefined {
    return this.state === "running" ? undefined : this.#wantedAt;
  }

  /** From here on a pause has no effect: the import is published, or is being undone. */
  end(): void {
    this.#isOver = true;
  }

  /** Runs a short step: a pause waits before it and lets a running step end. */
  async before<T>(step: () => Promise<T>): Promise<T> {
    await this.#pass();
    this.#shortSteps += 1;
    try {
      return await step();
    } finally {
      this.#shortSteps -= 1;
      this.#report();
    }
  }

  /**
   * Runs a byte step: a pause stops it, and a resume runs it again, which continues its part.
   *
   * @param onStop - called with the failure of a step that a pause has stopped
   */
  async during<T>(step: () => Promise<T>, onStop: (failure: unknown) => void): Promise<T> {
    const surrounding = CancellationScope.current();
    for (;;) {
      await this.#pass();
      const scope = new CancellationScope();
      this.#running.add(scope);
      try {
        return await scope.run(step);
      } catch (error) {
        const isPause = scope.consideredCancelled && !surrounding.consideredCancelled;
        if (!isPause || !wasStopped(error)) throw error;
        onStop(error);
      } finally {
        this.#running.delete(scope);
        this.#report();
      }
    }
  }

  /**
   * Waits while the import is paused. Throws `CancelledFailure` if the import is cancelled, also if
   * the previous step ignored the cancel.
   */
  async #pass(): Promise<void> {
    this.#waiting += 1;
    this.#report();
    try {
      await condition(() => !this.#isWanted);
    } finally {
      this.#waiting -= 1;
    }
  }

  #report(): void {
    if (this.#isWanted) this.#onChange();
  }
}
