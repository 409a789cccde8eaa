import { describe, expect, it } from "vitest";
import { StoreCalls } from "../../src/activities/store-calls.ts";
import { failureOf } from "../support/failure-of.ts";

/** A call of a store, which answers when the test lets it. */
class Call {
  readonly answered: Promise<string>;
  answer: (text: string) => void = () => undefined;

  constructor() {
    this.answered = new Promise((resolve) => {
      this.answer = resolve;
    });
  }
}

describe("StoreCalls.run()", () => {
  it("returns the store's answer, and passes on its failure", async () => {
    const calls = new StoreCalls();

    expect(await calls.run("fast", async () => 7)).toBe(7);
    const failing = calls.run("fast", async () => Promise.reject(new Error("it is full")));
    await expect(failing).rejects.toThrow("it is full");
  });

  it("fails when the store does not answer in time, and rejects further calls immediately", async () => {
    const calls = new StoreCalls({ limitMs: 10, atOnce: 4 });
    const hanging = new Call();
    const first = await failureOf(calls.run("away", () => hanging.answered));

    const second = await failureOf(calls.run("away", async () => "never asked"));

    expect([first, second]).toMatchObject([
      {
        code: "StoreUnavailable",
        retryable: true,
        message: expect.stringContaining("10 ms") as string,
      },
      { code: "StoreUnavailable", message: expect.stringContaining("earlier calls (1)") as string },
    ]);
  });

  it("leaves other stores alone", async () => {
    const calls = new StoreCalls({ limitMs: 10, atOnce: 1 });
    await failureOf(calls.run("away", () => new Call().answered));

    expect(await calls.run("fast", async () => "answered")).toBe("answered");
  });

  it("makes calls again when the store has answered after all", async () => {
    const calls = new StoreCalls({ limitMs: 10, atOnce: 1 });
    const slow = new Call();
    await failureOf(calls.run("slow", () => slow.answered));
    slow.answer("late");
    await slow.answered;

    expect(await calls.run("slow", async () => "answered")).toBe("answered");
  });
});
