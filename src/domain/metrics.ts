import { isImportFailureCode } from "./import-failure.ts";

/** The facts of one metric. */
export interface MetricFacts {
  readonly kind: "counter" | "gauge" | "histogram";
  /** The unit of its values; empty: a number of things. */
  readonly unit: "seconds" | "bytes" | "ratio" | "";
  readonly labels: readonly string[];
  readonly description: string;
  /** The upper bounds of the buckets of a histogram. */
  readonly buckets?: readonly number[];
}

// Small imports take tens of milliseconds, large ones hours.
const PHASE_SECONDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400];
const WAIT_SECONDS = [0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3_600];

/** All metrics of this software, by name. docs/metrics.md is generated from it. */
export const METRICS = {
  image_import_imports_total: {
    kind: "counter",
    unit: "",
    labels: ["method", "outcome", "code"],
    description:
      "Imports that have ended. `outcome` is `active`, `failed`, `cancelled`, `refused` or `abandoned`; `code` is that of the failure, or `none`.",
  },
  image_import_phase_seconds: {
    kind: "histogram",
    unit: "seconds",
    labels: ["phase", "method"],
    description: "The time that imports spent in a phase, pauses and retries included.",
    buckets: PHASE_SECONDS,
  },
  image_import_bytes_total: {
    kind: "counter",
    unit: "bytes",
    labels: ["path", "store"],
    description:
      "Bytes of finished copies and downloads, by the way they took: `copy`, `link`, `reflink` or `server copy` into a store, or `download` into staging, whose `store` is `staging`.",
  },
  image_import_retries_total: {
    kind: "counter",
    unit: "",
    labels: ["step", "code"],
    description: "Attempts of steps that failed and are tried again, by the code of their failure.",
  },
  image_import_queue_wait_seconds: {
    kind: "histogram",
    unit: "seconds",
    labels: ["queue"],
    description:
      "The time that a step waited for a worker, by the clocks of the server and the worker. `queue` is `control`, `bytes` or `clean_up`.",
    buckets: WAIT_SECONDS,
  },
  image_import_reconciled_total: {
    kind: "counter",
    unit: "",
    labels: ["kind"],
    description:
      "Leftovers that the reconciler found and undid: `claims`, `copies` or `deletions`.",
  },
  image_import_reconcile_failures_total: {
    kind: "counter",
    unit: "",
    labels: ["code"],
    description: "Leftovers that the reconciler found and could not undo; it tries again.",
  },
  image_import_running: {
    kind: "gauge",
    unit: "",
    labels: [],
    description: "Imports that hold the claim of their image, paused ones included.",
  },
  image_import_paused: {
    kind: "gauge",
    unit: "",
    labels: [],
    description: "Imports that are paused.",
  },
  image_import_oldest_seconds: {
    kind: "gauge",
    unit: "seconds",
    labels: [],
    description: "The age of the oldest running import; 0 if none runs.",
  },
  image_import_quota_used_ratio: {
    kind: "gauge",
    unit: "ratio",
    labels: ["quota"],
    description:
      "The largest share of a quota that any owner uses, reservations included; 0 if none has a limit. `image-import usage` names the owners.",
  },
  image_import_staging_free_bytes: {
    kind: "gauge",
    unit: "bytes",
    labels: [],
    description: "Free bytes of the staging area of this worker.",
  },
  image_import_store_free_bytes: {
    kind: "gauge",
    unit: "bytes",
    labels: ["store"],
    description: "Free bytes of a store, if it reports them; an S3 store does not.",
  },
  image_import_check_ok: {
    kind: "gauge",
    unit: "",
    labels: ["check"],
    description:
      "1 if a check of `/readyz` passes, 0 if it fails: `postgres`, `temporal` or `staging`.",
  },
  image_import_looked_timestamp_seconds: {
    kind: "gauge",
    unit: "seconds",
    labels: [],
    description:
      "The Unix time at which this worker last read the numbers of imports from the catalogue and from Temporal. If it is old, this worker cannot read them.",
  },
} as const satisfies Readonly<Record<string, MetricFacts>>;

/** The name of a metric. */
export type MetricName = keyof typeof METRICS;

type NameOf<Kind extends MetricFacts["kind"]> = {
  [Name in MetricName]: (typeof METRICS)[Name]["kind"] extends Kind ? Name : never;
}[MetricName];

/** The labels of a metric, each with its value. */
export type LabelsOf<Name extends MetricName> = Readonly<
  Record<(typeof METRICS)[Name]["labels"][number], string>
>;

/** The name of a gauge. */
export type GaugeName = NameOf<"gauge">;

/** The methods of Temporal's meter that create metrics. */
export interface Meter {
  createCounter(
    name: string,
    unit?: string,
    description?: string,
  ): { add(value: number, labels?: Record<string, string>): void };
  createHistogram(
    name: string,
    valueType?: "int" | "float",
    unit?: string,
    description?: string,
  ): { record(value: number, labels?: Record<string, string>): void };
  createGauge(
    name: string,
    valueType?: "int" | "float",
    unit?: string,
    description?: string,
  ): { set(value: number, labels?: Record<string, string>): void };
}

/** Adds to a counter. */
export function count<Name extends NameOf<"counter">>(
  meter: Meter,
  name: Name,
  labels: LabelsOf<Name>,
  amount = 1,
): void {
  // The exporter puts the suffix on counters.
  const base = name.replace(/_total$/, "");
  meter.createCounter(base, undefined, METRICS[name].description).add(amount, { ...labels });
}

/** Records a time in a histogram. */
export function observe<Name extends NameOf<"histogram">>(
  meter: Meter,
  name: Name,
  labels: LabelsOf<Name>,
  seconds: number,
): void {
  meter
    .createHistogram(name, "float", undefined, METRICS[name].description)
    .record(Math.max(0, seconds), { ...labels });
}

/** Sets a gauge. */
export function setGauge<Name extends GaugeName>(
  meter: Meter,
  name: Name,
  labels: LabelsOf<Name>,
  value: number,
): void {
  meter.createGauge(name, "float", undefined, METRICS[name].description).set(value, { ...labels });
}

/** The value of a label `code`: one of the table of failures, `none`, or `other`. */
export function codeLabel(code: string | undefined): string {
  if (code === undefined) return "none";
  return isImportFailureCode(code) ? code : "other";
}
