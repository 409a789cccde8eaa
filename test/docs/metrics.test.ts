import { readFileSync } from "node:fs";
import { describe, expect, it, vi } from "vitest";
import { parse } from "yaml";
import { METRICS, type MetricFacts } from "../../src/domain/metrics.ts";
import { PATIENCE } from "../support/patience.ts";
import { SharedStack, writeDisk } from "../support/shared-stack.ts";

const metrics: ReadonlyMap<string, MetricFacts> = new Map(Object.entries(METRICS));
/** The labels that the SDK adds to the metrics of workflows. */
const OF_SDK = ["namespace", "taskQueue", "workflowType"];

interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

function textOf(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
}

/** Names of our metrics in a query, without the suffixes of histograms. */
function namesIn(query: string): string[] {
  return (query.match(/image_import_\w+/g) ?? []).map(baseName);
}

function baseName(name: string): string {
  return metrics.has(name) ? name : name.replace(/_(bucket|sum|count)$/, "");
}

function parseScrape(text: string): { series: Series[]; types: Map<string, string> } {
  const types = new Map(
    [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = "", type = ""]) => [name, type]),
  );
  const series = [...text.matchAll(/^(image_import_\w+)(?:\{(.*)\})? (\S+)$/gm)].map(
    ([, name = "", labels = "", value]) => ({
      name,
      labels: Object.fromEntries(
        [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, text]) => [key, text]),
      ) as Record<string, string>,
      value: Number(value),
    }),
  );
  return { series, types };
}

async function scrape(stack: SharedStack): Promise<ReturnType<typeof parseScrape>> {
  const response = await fetch(stack.file.metrics_url ?? "");
  return parseScrape(await response.text());
}

describe("metrics of a worker", () => {
  it("have the documented names, types and labels, and count an import", async () => {
    const stack = new SharedStack();
    const of = (all: readonly Series[], name: string, labels: Record<string, string>) =>
      all.find((each) => each.name === name && hasLabels(each, labels))?.value ?? 0;
    const active = { method: "glance-direct", outcome: "active", code: "none" };
    const before = await scrape(stack);
    expect(await stack.commandLine.json("import", writeDisk())).toMatchObject({ exitCode: 0 });

    // The counts of a workflow arrive after its end.
    const { series, types } = await vi.waitFor(async () => {
      const after = await scrape(stack);
      expect(of(after.series, "image_import_imports_total", active)).toBeGreaterThan(
        of(before.series, "image_import_imports_total", active),
      );
      return after;
    }, PATIENCE);

    const wrong = series.filter(({ name, labels }) => {
      const facts = metrics.get(baseName(name));
      const known = [...(facts?.labels ?? []), ...OF_SDK, "le"];
      return (
        facts === undefined ||
        types.get(baseName(name)) !== facts.kind ||
        Object.keys(labels).some((label) => !known.includes(label)) ||
        facts.labels.some((label) => labels[label] === undefined)
      );
    });
    expect(wrong).toEqual([]);
    const names = new Set(series.map(({ name }) => baseName(name)));
    const silent = [...metrics.keys()].filter((name) => !names.has(name));
    // They appear with the first event of their kind.
    const ofEvents = ["image_import_retries_total", "image_import_reconcile_failures_total"];
    expect(
      silent.filter((name) => ![...ofEvents, "image_import_reconciled_total"].includes(name)),
    ).toEqual([]);
    const moved = of(series, "image_import_bytes_total", { path: "link", store: "local" });
    expect(moved).toBeGreaterThan(0);
    for (const check of ["postgres", "temporal", "staging"]) {
      expect(of(series, "image_import_check_ok", { check })).toBe(1);
    }
  });
});

function hasLabels({ labels }: Series, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([label, value]) => labels[label] === value);
}

describe("deploy", () => {
  it("has alert rules only on metrics that exist", () => {
    const { groups } = parse(textOf("deploy/prometheus/alerts.yml")) as {
      readonly groups: readonly { readonly rules: readonly { readonly expr: string }[] }[];
    };
    const names = groups.flatMap(({ rules }) => rules.flatMap(({ expr }) => namesIn(expr)));

    expect(names.length).toBeGreaterThan(10);
    expect(names.filter((name) => !metrics.has(name))).toEqual([]);
  });

  it("has a dashboard that shows every metric, and no other", () => {
    const { panels } = JSON.parse(textOf("deploy/grafana/image-import.json")) as {
      readonly panels: readonly { readonly targets: readonly { readonly expr: string }[] }[];
    };
    const names = panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => namesIn(expr)));

    expect([...new Set(names)].sort()).toEqual([...metrics.keys()].sort());
  });
});
