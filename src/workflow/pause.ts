import { CancellationScope, condition, setHandler } from "@temporalio/workflow";
import { pauseImport, resumeImport } from "./contract.ts";
import { wasStopped } from "./failure-report.ts";

/**
 * Pause and resume. A byte step that runs is stopped by cancelling it for that reason alone; its
 * part stays, no undo runs, and the same step is called again on resume.
 */
export class Pause {
  #isWanted = false;
  readonly #running = new Set<CancellationScope>();
  readonly #onChange: () => void;
  #waiting = 0;
  #shortSteps = 0;
  #isOver = false;

  /** @param onChange - called whenever the state may have changed */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
    setHandler(
      pauseImport,
      () => {
        this.#isWanted = true;
        for (const scope of this.#running) scope.cancel();
        onChange();
      },
      { description: "Stops the bytes within seconds and keeps what was copied" },
    );
    setHandler(
      resumeImport,
      () => {
        this.#isWanted = false;
        onChange();
      },
      { description: "Goes on from where the pause stopped" },
    );
  }

  /** What to tell people. */
  get state(): "running" | "pausing after this step" | "paused" {
    if (!this.#isWanted || this.#isOver) return "running";
    const isStill = this.#waiting > 0 && this.#running.size === 0 && this.#shortSteps === 0;
    return isStill ? "paused" : "pausing after this step";
  }

  /** From here on nothing can be paused: the import is published, or being undone. */
  end(): void {
    this.#isOver = true;
  }

  /** Runs a short step: a pause waits before it, and never stops it. */
  async before<T>(step: () => Promise<T>): Promise<T> {
    await this.#pass();
    this.#shortSteps += 1;
    try {
      return await step();
    } finally {
      this.#shortSteps -= 1;
      this.#tell();
    }
  }

  /** Runs a byte step: a pause stops it, and a resume runs it again, to go on from its part. */
  async during<T>(step: () => Promise<T>): Promise<T> {
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
      } finally {
        this.#running.delete(scope);
        this.#tell();
      }
    }
  }

  /** Waits while paused. A cancel that the step before did not heed counts here, paused or not. */
  async #pass(): Promise<void> {
    this.#waiting += 1;
    this.#tell();
    try {
      await condition(() => !this.#isWanted);
    } finally {
      this.#waiting -= 1;
    }
  }

  #tell(): void {
    if (this.#isWanted) this.#onChange();
  }
}
