import { wrapped } from "./regions.mjs";

/** @typedef {import("../../src/domain/metrics.ts").MetricFacts} MetricFacts */

/**
 * The list of metrics: name, type, unit, labels and meaning.
 *
 * @param {Readonly<Record<string, MetricFacts>>} metrics
 */
export function metricList(metrics) {
  return Object.entries(metrics)
    .map(([name, { kind, unit, labels, description }]) => {
      const facts = [kind, unit, ...labels.map((label) => `\`${label}\``)].filter(
        (fact) => fact !== "",
      );
      return wrapped(`\`${name}\` (${facts.join(", ")}): ${description}`, {
        first: "- ",
        rest: "  ",
      });
    })
    .join("\n");
}
