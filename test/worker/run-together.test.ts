import { EventEmitter, once } from "node:events";
import type { Worker } from "@temporalio/worker";
import { describe, expect, it } from "vitest";
import { runTogether } from "../../src/worker/run-together.ts";

/** A worker that ends when the test says so. */
class ExampleWorker {
  isShutDown = false;
  readonly #end = new EventEmitter();
  #state: ReturnType<Worker["getState"]> = "INITIALIZED";

  getState(): ReturnType<Worker["getState"]> {
    return this.#state;
  }

  async run(): Promise<void> {
    this.#state = "RUNNING";
    await once(this.#end, "end");
  }

  shutdown(): void {
    this.isShutDown = true;
    this.#state = "DRAINING";
  }

  end(): void {
    this.#state = "STOPPED";
    this.#end.emit("end");
  }

  fail(error: Error): void {
    this.#state = "FAILED";
    this.#end.emit("error", error);
  }
}

const NO_MOMENTS = { onRunning: () => undefined, onEnding: () => undefined };

describe("runTogether()", () => {
  it("waits for the steps of the others when one fails, and reports the first failure", async () => {
    const [first, second] = [new ExampleWorker(), new ExampleWorker()];
    const steps: string[] = [];
    const moments = new EventEmitter();
    const ending = once(moments, "ending");
    const running = runTogether([first, second], {
      onRunning: () => steps.push(`run: ${first.getState()} ${second.getState()}`),
      onEnding: () => {
        steps.push("ending");
        moments.emit("ending");
      },
    }).finally(() => steps.push("ended"));

    first.fail(new Error("Temporal does not answer"));
    await ending;
    // A turn of the event loop, in which an end that waits for nothing would be seen.
    await new Promise(setImmediate);
    steps.push(second.isShutDown ? "shut down" : "not shut down");
    second.fail(new Error("a later failure"));

    await expect(running).rejects.toThrow("Temporal does not answer");
    expect(steps).toEqual(["run: RUNNING RUNNING", "ending", "shut down", "ended"]);
  });

  it("ends when all have ended", async () => {
    const [first, second] = [new ExampleWorker(), new ExampleWorker()];
    const running = runTogether([first, second], NO_MOMENTS);

    first.end();
    second.end();

    await expect(running).resolves.toBeUndefined();
    expect(second.isShutDown).toBe(false);
  });

  it("shuts the workers down when what follows their start fails", async () => {
    const worker = new ExampleWorker();
    const running = runTogether([worker], {
      ...NO_MOMENTS,
      onRunning: () => {
        throw new Error("the channel is closed");
      },
    });

    expect(worker.isShutDown).toBe(true);
    worker.end();

    await expect(running).rejects.toThrow("the channel is closed");
  });
});
