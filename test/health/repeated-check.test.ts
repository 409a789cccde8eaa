import { describe, expect, it, onTestFinished, vi } from "vitest";
import { RepeatedCheck } from "../../src/health/repeated-check.ts";
import { PATIENCE } from "../support/patience.ts";

/** A check whose work a test decides; it ends with the running test. */
function startCheck(work: () => Promise<void>): RepeatedCheck {
  const check = new RepeatedCheck({ work, everyMs: 5, limitMs: 30 });
  check.start();
  onTestFinished(() => {
    check.stop();
  });
  return check;
}

async function until(check: RepeatedCheck, ok: boolean): Promise<void> {
  await vi.waitUntil(() => check.result.ok === ok, PATIENCE);
}

describe("RepeatedCheck", () => {
  it("is not ok before it was checked", () => {
    expect(new RepeatedCheck({ work: () => Promise.resolve() }).result).toMatchObject({
      ok: false,
      reason: "It is checked for the first time",
    });
  });

  it("reports a failure with its reason and the time of the first one, until it passes again", async () => {
    let failures = 0;
    let isAway = true;
    const check = startCheck(() => {
      if (!isAway) return Promise.resolve();
      failures += 1;
      return Promise.reject(new Error(`away ${failures}`));
    });

    await vi.waitUntil(() => failures > 1, PATIENCE);
    const { since } = check.result;
    await vi.waitUntil(() => failures > 5, PATIENCE);
    const later = check.result;
    isAway = false;
    await until(check, true);

    expect(later).toEqual({
      ok: false,
      since,
      reason: expect.stringMatching(/^away \d+$/) as unknown,
    });
    expect(check.result).toMatchObject({ ok: true, reason: null });
    expect(check.result.since > since).toBe(true);
  });

  it("has failed when it hangs, is not begun a second time, and passes when it ends well", async () => {
    let begun = 0;
    let release = (): void => undefined;
    const check = startCheck(async () => {
      begun += 1;
      if (begun === 2) await new Promise<void>((resolve) => (release = resolve));
    });
    await until(check, true);

    await until(check, false);
    const hanging = { begun, ...check.result };
    release();
    await until(check, true);

    expect(hanging).toMatchObject({ begun: 2, reason: "It did not answer within 30 ms" });
  });

  it("begins no further check once it was stopped", async () => {
    let begun = 0;
    let begunOfOther = 0;
    const check = startCheck(() => {
      begun += 1;
      return Promise.resolve();
    });
    await until(check, true);

    check.stop();
    const before = begun;
    startCheck(() => {
      begunOfOther += 1;
      return Promise.resolve();
    });
    await vi.waitUntil(() => begunOfOther > 5, PATIENCE);

    expect(begun).toBe(before);
  });
});
