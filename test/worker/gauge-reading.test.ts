import { Runtime } from "@temporalio/worker";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { GaugeReading, type SetGauge } from "../../src/worker/gauge-reading.ts";
import { installRuntime } from "../../src/worker/install-runtime.ts";
import { PATIENCE } from "../support/patience.ts";

let metricsUrl: string;

beforeAll(async () => {
  const runtime = await installRuntime({
    log: { level: "error", secrets: [] },
    metrics: { host: "127.0.0.1", port: 0 },
  });
  metricsUrl = runtime.metricsUrl;
});

afterAll(() => Runtime.instance().shutdown());

/** The values of the gauge of stores, by store, as the exporter shows them. */
async function shown(): Promise<Record<string, string>> {
  const text = await (await fetch(metricsUrl)).text();
  const series = text.matchAll(/^image_import_store_free_bytes\{.*store="(.*?)".*\} (\S+)$/gm);
  return Object.fromEntries([...series].map(([, store = "", value = ""]) => [store, value]));
}

async function untilShown(values: Record<string, string>): Promise<void> {
  await vi.waitFor(async () => {
    expect(await shown()).toMatchObject(values);
  }, PATIENCE);
}

/** A reading that ends with the running test. */
function startReading(read: (set: SetGauge) => Promise<void>): string[] {
  const failures: string[] = [];
  const reading = new GaugeReading(Runtime.instance().metricMeter, {
    read,
    everyMs: 5,
    limitMs: 50,
    onFailure: (reason) => failures.push(reason),
  });
  reading.start();
  onTestFinished(() => {
    reading.stop();
  });
  return failures;
}

const FREE = "image_import_store_free_bytes";

describe("GaugeReading", () => {
  it("takes the value of a gauge that cannot be read, until it can be read again", async () => {
    let isAway = false;
    const failures = startReading(async (set) => {
      if (isAway) throw new Error("It is unreachable");
      set(FREE, { store: "a" }, 7);
      return Promise.resolve();
    });
    await untilShown({ a: "7" });

    isAway = true;
    await untilShown({ a: "NaN" });
    isAway = false;
    await untilShown({ a: "7" });

    expect(new Set(failures)).toEqual(new Set(["It is unreachable"]));
  });

  it("takes the value of the one gauge that a reading does not set", async () => {
    let isAlone = false;
    startReading(async (set) => {
      set(FREE, { store: "b" }, 1);
      if (!isAlone) set(FREE, { store: "c" }, 2);
      return Promise.resolve();
    });
    await untilShown({ b: "1", c: "2" });

    isAlone = true;

    await untilShown({ b: "1", c: "NaN" });
  });

  it("takes the values when a reading hangs, and begins no second one", async () => {
    let begun = 0;
    let release = (): void => undefined;
    startReading(async (set) => {
      begun += 1;
      if (begun === 3) await new Promise<void>((resolve) => (release = resolve));
      set(FREE, { store: "d" }, begun);
    });

    await untilShown({ d: "NaN" });
    const hanging = begun;
    release();
    await vi.waitUntil(async () => Number((await shown())["d"]) > 3, PATIENCE);

    expect(hanging).toBe(3);
  });
});
