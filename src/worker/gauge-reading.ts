import { setGauge, type GaugeName, type LabelsOf, type Meter } from "../domain/metrics.ts";
import { RepeatedCheck } from "../health/repeated-check.ts";

/** Sets one value of a gauge. */
export type SetGauge = <Name extends GaugeName>(
  name: Name,
  labels: LabelsOf<Name>,
  value: number,
) => void;

/** Settings of a {@link GaugeReading}. */
export interface GaugeReadingOptions {
  /** Reads the facts, and sets the gauges. A gauge that it does not set becomes NaN. */
  readonly read: (set: SetGauge) => void | Promise<void>;
  /** The pause between two readings, in ms. */
  readonly everyMs: number;
  /** A reading that takes longer has failed, in ms. */
  readonly limitMs: number;
  /** Called with the reason when the reading fails. */
  readonly onFailure: (reason: string) => void;
}

/**
 * Gauges that are set from one reading, again and again. Gauges that cannot be read become NaN: the
 * exporter of the SDK cannot remove a gauge, and an old value would look like a current one. A
 * reading that hangs has failed, and no second one begins before it ends.
 */
export class GaugeReading {
  readonly #meter: Meter;
  readonly #options: GaugeReadingOptions;
  readonly #check: RepeatedCheck;
  /** Functions that set a gauge to NaN, for each gauge with a value, by its name and labels. */
  readonly #unset = new Map<string, () => void>();

  /** Reads nothing yet. */
  constructor(meter: Meter, options: GaugeReadingOptions) {
    this.#meter = meter;
    this.#options = options;
    const { everyMs, limitMs } = options;
    this.#check = new RepeatedCheck({
      work: () => this.#read(),
      everyMs,
      limitMs,
      onFailure: (reason) => {
        this.#unsetAll();
        options.onFailure(reason);
      },
    });
  }

  /** Reads until {@link GaugeReading.stop}. */
  start(): void {
    this.#check.start();
  }

  /** Begins no further reading. */
  stop(): void {
    this.#check.stop();
  }

  async #read(): Promise<void> {
    const before = new Map(this.#unset);
    await this.#options.read((name, labels, value) => {
      const key = JSON.stringify([name, labels]);
      before.delete(key);
      this.#unset.set(key, () => {
        setGauge(this.#meter, name, labels, NaN);
      });
      setGauge(this.#meter, name, labels, value);
    });
    for (const [key, unset] of before) {
      unset();
      this.#unset.delete(key);
    }
  }

  #unsetAll(): void {
    for (const unset of this.#unset.values()) unset();
    this.#unset.clear();
  }
}
