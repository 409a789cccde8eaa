import { metricMeter } from "@temporalio/workflow";
import { codeLabel, count, observe } from "../domain/metrics.ts";
import { IMPORT_METHODS } from "../domain/import-request.ts";
import type { PhaseTime } from "./contract.ts";

// A metric is not a command, so old histories replay as before. While a history is replayed, the
// SDK drops the metrics.

/** A phase has ended. */
export function measurePhase({ phase, started_at, ended_at }: PhaseTime, method: string): void {
  const seconds = (Date.parse(ended_at ?? started_at) - Date.parse(started_at)) / 1000;
  observe(
    metricMeter,
    "image_import_phase_seconds",
    { phase, method: methodLabel(method) },
    seconds,
  );
}

/**
 * An import has ended.
 *
 * @param code - of its failure, if it has failed
 */
export function countImport(method: string, outcome: string, code: string | undefined): void {
  const labels = { method: methodLabel(method), outcome, code: codeLabel(code) };
  count(metricMeter, "image_import_imports_total", labels);
}

/** The reconciler has undone a leftover. */
export function countReconciled(kind: "claims" | "copies" | "deletions"): void {
  count(metricMeter, "image_import_reconciled_total", { kind });
}

/** The reconciler could not undo a leftover. */
export function countReconcileFailure(code: string): void {
  count(metricMeter, "image_import_reconcile_failures_total", { code: codeLabel(code) });
}

/** Any client can start a run with any text as its method. */
function methodLabel(method: string): string {
  return (IMPORT_METHODS as readonly string[]).includes(method) ? method : "other";
}
