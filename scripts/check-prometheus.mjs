import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findOnPath, say } from "./commands.mjs";
import { PACKAGE_ROOT, prepare } from "./prepare.mjs";
import { ensureTemporalCli } from "./temporal-cli.mjs";

// Checks deploy/ with Prometheus: promtool checks and tests the rules; a Prometheus scrapes a
// running stack, into which one image is imported, and evaluates each rule and each query of the
// dashboard once. Needs the programs of the Debian package `prometheus`.

const RULES = join(PACKAGE_ROOT, "deploy/prometheus/alerts.yml");
const RULE_TESTS = join(PACKAGE_ROOT, "deploy/prometheus/alerts.test.yml");
const DASHBOARD = join(PACKAGE_ROOT, "deploy/grafana/image-import.json");
const PATIENCE_MS = 90_000;

for (const program of ["promtool", "prometheus"]) {
  if (!findOnPath(program)) throw new Error(`Cannot check deploy/: there is no ${program} on PATH`);
}
run("promtool", ["check", "rules", RULES]);
run("promtool", ["test", "rules", RULE_TESTS]);

await prepare();
const { startStack } = await import("#dist/stack/stack.js");
const { findFreePort } = await import("#dist/stack/ports.js");
const { Program, waitUntilReady } = await import("#dist/stack/program.js");
const { readStackFile } = await import("#dist/config/stack-file.js");

const directory = mkdtempSync(join(tmpdir(), "image-import-prometheus-"));
const dataDir = join(directory, "data");
/** @type {import("#dist/stack/program.js").Program | undefined} */
let prometheus;
const stack = await startStack({ dataDir, temporalCli: await ensureTemporalCli() });
try {
  importOnce();
  const url = await startPrometheus(readStackFile(dataDir)?.metrics_url ?? "");
  await untilTrue(url, "max(image_import_looked_timestamp_seconds) > 0");
  await untilTrue(url, "sum(image_import_imports_total) > 0");
  await checkQueries(url);
  await checkRules(url);
  say("deploy/ works with Prometheus");
} finally {
  await prometheus?.stop();
  await stack.stop();
  rmSync(directory, { recursive: true, force: true });
}

function importOnce() {
  const file = join(directory, "disk.raw");
  writeFileSync(file, randomBytes(4 * 1024 * 1024));
  const cli = join(PACKAGE_ROOT, "dist/cli/main.js");
  run(process.execPath, [cli, "--data-dir", dataDir, "import", file]);
}

/** @param {string} metricsUrl */
async function startPrometheus(metricsUrl) {
  const url = `http://127.0.0.1:${await findFreePort()}`;
  const { host: target } = new URL(metricsUrl);
  const config = join(directory, "prometheus.json");
  const storage = join(directory, "prometheus");
  mkdirSync(storage);
  writeFileSync(
    config,
    JSON.stringify({
      global: { scrape_interval: "1s", evaluation_interval: "1s" },
      rule_files: [RULES],
      scrape_configs: [{ job_name: "image-import", static_configs: [{ targets: [target] }] }],
    }),
  );
  const { host } = new URL(url);
  const args = [`--config.file=${config}`, `--storage.tsdb.path=${storage}`];
  const program = new Program({
    name: "prometheus",
    command: ["prometheus", ...args, `--web.listen-address=${host}`],
    env: { PATH: process.env["PATH"] },
    logFile: join(directory, "prometheus.log"),
    stop: { signal: "SIGTERM", withinMs: 10_000 },
  });
  prometheus = program;
  await waitUntilReady(program, async () => (await fetch(`${url}/-/ready`)).ok);
  return url;
}

/** @param {string} url */
async function checkQueries(url) {
  const { panels } = JSON.parse(readFileSync(DASHBOARD, "utf8"));
  const queries = panels.flatMap((/** @type {any} */ { targets }) =>
    targets.map((/** @type {any} */ { expr }) => expr),
  );
  let withData = 0;
  for (const query of queries) withData += (await ask(url, query)).length > 0 ? 1 : 0;
  say(`${queries.length} queries of the dashboard are valid, ${withData} have data`);
  // Those of failures, retries and the reconciler have none: nothing failed.
  if (withData < queries.length / 2) throw new Error("Most queries of the dashboard have no data");
}

/**
 * Waits until each rule was evaluated, and makes sure that none failed or fires. @param {string}
 * url
 */
async function checkRules(url) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const { data } = await getJson(`${url}/api/v1/rules`);
    const rules = data.groups.flatMap((/** @type {any} */ group) => group.rules);
    const ill = rules.filter((/** @type {any} */ { health }) => health !== "ok");
    if (rules.length > 0 && ill.length === 0) {
      const firing = rules.filter((/** @type {any} */ { state }) => state === "firing");
      const names = firing.map((/** @type {any} */ { name }) => name);
      if (names.length > 0)
        throw new Error(`These rules fire on a stack that works: ${names.join(", ")}`);
      say(`${rules.length} rules were evaluated, and none fires`);
      return;
    }
    if (Date.now() > deadline) throw new Error(`Rules fail: ${JSON.stringify(ill)}`);
    await sleep(200);
  }
}

/** @param {string} url @param {string} query */
async function untilTrue(url, query) {
  const deadline = Date.now() + PATIENCE_MS;
  while ((await ask(url, query)).length === 0) {
    if (Date.now() > deadline) throw new Error(`Prometheus never saw ${query}`);
    await sleep(200);
  }
}

/** @param {string} url @param {string} query @returns {Promise<unknown[]>} */
async function ask(url, query) {
  const answer = await getJson(`${url}/api/v1/query?query=${encodeURIComponent(query)}`);
  if (answer.status !== "success") throw new Error(`Cannot evaluate ${query}: ${answer.error}`);
  return answer.data.result;
}

/** @param {string} url @returns {Promise<any>} */
async function getJson(url) {
  return (await fetch(url)).json();
}

/** @param {string} command @param {string[]} args */
function run(command, args) {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  process.stderr.write(stdout + stderr);
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${status}`);
}
