import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { makeCacheDirectory } from "./cache-directory.mjs";
import { outputOf, say, succeeds } from "./commands.mjs";
import { exclusively } from "./exclusively.mjs";
import { PACKAGE_ROOT } from "./prepare.mjs";
import { runWithTemporal } from "./run-with-temporal.mjs";
import { messageOf } from "./thrown-error.mjs";

// Runs the image suites of OpenStack's own clients and testers against the HTTP API, beside a
// Keystone: `npm run conformance`, or `npm run conformance -- rbac clients-none` for some of them.
// The first run installs them into our cache: Python 3.10 or newer, Go and two minutes.

/**
 * The suites, with the result of a real Glance 33 and ours to reach: passed/failed/skipped.
 *
 * @type {Record<string, { glance: string, goal: string }>}
 */
const SUITES = {
  "clients-none": { glance: "37/3/0", goal: "40/0/0" },
  "clients-token": { glance: "37/3/0", goal: "40/0/0" },
  "clients-basic": { glance: "37/3/0", goal: "40/0/0" },
  rbac: { glance: "42/0/0", goal: "42/0/0" },
  sdk: { glance: "25/0/0", goal: "25/0/0" },
  osc: { glance: "10/0/0", goal: "10/0/0" },
  glanceclient: { glance: "7/0/0", goal: "7/0/0" },
  gophercloud: { glance: "8/0/0", goal: "8/0/0" },
  // The suite creates and lists tasks. Here a task cannot be created through its own route.
  "gophercloud-tasks": { glance: "3/0/0", goal: "2/1/0" },
  "tempest-true": { glance: "52/0/20", goal: "52/0/20" },
  "tempest-lists": { glance: "17/0/0", goal: "17/0/0" },
  "tempest-images": { glance: "14/2/4", goal: "16/0/4" },
  "tempest-remote": { glance: "2/0/0", goal: "2/0/0" },
};
const SCRIPTS = join(PACKAGE_ROOT, "scripts/conformance");
const IMAGE_IMPORT = join(PACKAGE_ROOT, "scripts/image-import.mjs");
const START_PATIENCE_MS = 120_000;

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !Object.hasOwn(SUITES, name));
if (unknown.length > 0) {
  say(`Cannot run ${unknown.join(", ")}: the suites are ${Object.keys(SUITES).join(", ")}`);
  process.exit(2);
}
const suites = wanted.length > 0 ? wanted : Object.keys(SUITES);

const lab = join(makeCacheDirectory(), "conformance");
const work = mkdtempSync(join(tmpdir(), "image-import-conformance-"));
/** The programs that run, newest last. @type {import("node:child_process").ChildProcess[]} */
const children = [];
/** @type {NodeJS.ProcessEnv} */
let environment = process.env;
const interrupted = new AbortController();
for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM"])) {
  process.once(signal, () => {
    interrupted.abort(new Error("It was interrupted"));
  });
}

await runWithTemporal(() => exclusively(`conformance ${lab}`, "runs the suites", run));

async function run() {
  try {
    process.exitCode = (await runSuites()) ? 0 : 1;
  } catch (error) {
    say(messageOf(error));
    process.exitCode = 1;
  } finally {
    await stopAll();
  }
}

/** @returns {Promise<boolean>} true if every suite has reached its goal */
async function runSuites() {
  const [identity = 0, files = 0, open = 0, tokens = 0, first = 0, second = 0] = await freePorts(6);
  /** @param {number} port */
  const at = (port) => `http://127.0.0.1:${String(port)}`;
  environment = {
    ...process.env,
    LAB_DIR: lab,
    // Keystone's libraries announce their end at every start.
    PYTHONWARNINGS: "ignore",
    KEYSTONE_PORT: String(identity),
    WEB_PORT: String(files),
    IMAGE_URL: at(first),
  };
  await install();
  const settings = settingsFor([files, first, second]);
  await startStack(settings);
  if (suites.some((name) => !name.startsWith("clients-"))) {
    const api = { identity: "keystone", keystone: { url: `${at(identity)}/v3` } };
    await script("keystone.sh", ["start"]);
    await startApi("keystone", settings, { ...api, port: first });
    if (suites.includes("tempest-remote"))
      await startSecondHost(settings, { ...api, port: second });
  }
  await script("suites.sh", ["serve"]);
  const isAsGood = [];
  /** @type {{ token: string, user: string } | undefined} */
  let account;
  for (const name of suites) {
    interrupted.signal.throwIfAborted();
    const [, way = ""] = /^clients-(.*)$/.exec(name) ?? [];
    if (way === "none") {
      await startApi("open", settings, { port: open });
      await script("clients.sh", [], { IMAGE_URL: at(open) }, false);
    } else if (way !== "") {
      account ??= await startTokenApi(settings, tokens);
      const { token, user } = account;
      const credentials = { TOKEN: token, BASIC_USER: user, BASIC_PASSWORD: token };
      const env = { IMAGE_URL: at(tokens), AUTH: way, ...credentials };
      await script("clients.sh", [], env, false);
    } else {
      await script("suites.sh", ["clean"]);
      const env = name === "tempest-remote" ? { REMOTE_URL: at(second) } : {};
      await script("suites.sh", [name], env, false);
    }
    isAsGood.push(report(name));
  }
  say(`The results of every test: ${join(lab, "results")}`);
  return isAsGood.every((each) => each);
}

/** Prints the result of a suite beside its goal. @param {string} name */
function report(name) {
  const { glance = "", goal = "" } = SUITES[name] ?? {};
  const path = join(lab, "results", `${name}.sum`);
  const [, result = "did not run"] = / (\d+\/\d+\/\d+) /.exec(readIfThere(path)) ?? [];
  const isReached = reaches(result, goal);
  const end = isReached ? "" : "  WORSE THAN ITS GOAL";
  process.stdout.write(
    `${name.padEnd(18)} ${result.padEnd(9)} Glance ${glance.padEnd(8)} goal ${goal}${end}\n`,
  );
  return isReached;
}

/** @param {string} result @param {string} goal */
function reaches(result, goal) {
  const [passed = -1, failed = 0, skipped = 0] = result.split("/").map(Number);
  const [mustPass = 0, mayFail = 0, maySkip = 0] = goal.split("/").map(Number);
  return passed >= mustPass && failed <= mayFail && skipped <= maySkip;
}

async function install() {
  mkdirSync(join(lab, "results"), { recursive: true });
  for (const name of suites) rmSync(join(lab, "results", `${name}.sum`), { force: true });
  const stamp = join(lab, "installed");
  const versions = readFileSync(join(SCRIPTS, "env.sh"), "utf8");
  if (readIfThere(stamp) === versions) return;
  say("Installing Keystone and the suites: about two minutes, once …");
  rmSync(stamp, { force: true });
  for (const name of ["venv", "src"]) rmSync(join(lab, name), { recursive: true, force: true });
  await script("keystone.sh", ["install"]);
  writeFileSync(stamp, versions);
}

/** The settings of every process. @param {readonly number[]} ports - that downloads may reach */
function settingsFor(ports) {
  const key = join(work, "secrets.key");
  writeFileSync(key, `${randomBytes(32).toString("base64")}\n`, { mode: 0o600 });
  return {
    default_store: "first",
    stores: {
      first: { type: "file", path: join(work, "stores/first") },
      second: { type: "file", path: join(work, "stores/second") },
    },
    secrets: { key_file: key },
    // A suite of the SDK uploads one of its own texts.
    formats: { allow_text: true },
    sources: { web: { ports: [80, 443, ...ports], allowed_networks: ["127.0.0.0/8"] } },
  };
}

/**
 * Starts Postgres, Temporal, a worker and an API with these settings.
 *
 * @param {object} settings
 */
async function startStack(settings) {
  await start("stack", ["--data-dir", work, "dev"], writeSettings("image-import", settings), () =>
    readIfThere(join(work, "stack.json")).includes('"state": "ready"'),
  );
}

/**
 * Starts an API beside that of the stack.
 *
 * @param {string} name
 * @param {object} settings
 * @param {object} api - the section `api`
 */
async function startApi(name, settings, api) {
  const config = writeSettings(name, { ...settings, api });
  await start(name, ["--data-dir", work, "api"], config, (log) => log.includes('"api_url"'));
}

/** @param {object} settings @param {number} port */
async function startTokenApi(settings, port) {
  const user = "lab";
  const args = ["--json", "token", "--user", user, "--project", user, "--role", "admin"];
  /** @type {{ token: string, entry: object }} */
  const { token, entry } = JSON.parse(outputOf(process.execPath, [IMAGE_IMPORT, ...args]) ?? "");
  const file = join(work, "token-digests.yaml");
  writeFileSync(file, JSON.stringify({ tokens: [entry] }), { mode: 0o600 });
  await startApi("tokens", settings, { port, identity: "tokens", tokens_file: file });
  return { token, user };
}

/**
 * Starts an API and a worker with a staging volume of their own, as on another host.
 *
 * @param {object} settings
 * @param {object} api
 */
async function startSecondHost(settings, api) {
  const staging = join(work, "staging-of-second-host");
  mkdirSync(staging);
  const config = { ...settings, node_staging_uri: pathToFileURL(staging).href };
  await startApi("second", config, api);
  const path = writeSettings("worker", config);
  const ports = ["--health-port", "0", "--metrics-port", "0"];
  await start("second worker", ["--data-dir", work, "worker", ...ports], path, (log) =>
    log.includes('"health_url"'),
  );
}

/** @param {string} name @param {object} settings */
function writeSettings(name, settings) {
  const path = join(work, `${name}.yaml`);
  writeFileSync(path, JSON.stringify(settings, undefined, 2));
  return path;
}

/**
 * Starts a program of ours and waits until it is ready.
 *
 * @param {string} name
 * @param {readonly string[]} args
 * @param {string} config
 * @param {(log: string) => boolean} isReady
 */
async function start(name, args, config, isReady) {
  const env = { ...process.env, IMAGE_IMPORT_CONFIG: config };
  const child = spawn(process.execPath, [IMAGE_IMPORT, ...args], {
    env,
    // Ctrl-C reaches this process alone, which ends the programs in order.
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  let log = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (/** @type {string} */ text) => {
      // The end of the output is enough to show why the program does not start.
      log = `${log}${text}`.slice(-20_000);
    });
  }
  const until = Date.now() + START_PATIENCE_MS;
  while (!isReady(log)) {
    interrupted.signal.throwIfAborted();
    if (child.exitCode !== null || Date.now() > until) {
      throw new Error(`Cannot start the ${name}:\n${log}`);
    }
    await sleep(100);
  }
}

/** Ends all programs, and removes the data of the stack. */
async function stopAll() {
  if (existsSync(join(lab, "venv"))) {
    await script("suites.sh", ["stop"], {}, false);
    await script("keystone.sh", ["purge"], {}, false);
  }
  for (const child of children.reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  }
  rmSync(work, { recursive: true, force: true });
}

/**
 * Runs one of our scripts.
 *
 * @param {string} name
 * @param {readonly string[]} args
 * @param {NodeJS.ProcessEnv} env - added to the environment of all scripts
 * @param {boolean} mustSucceed
 */
async function script(name, args, env = {}, mustSucceed = true) {
  const isDone = await succeeds(join(SCRIPTS, name), args, { env: { ...environment, ...env } });
  if (!isDone && mustSucceed) throw new Error(`Cannot run ${name} ${args.join(" ")}: see above`);
}

/** Ports that are free now. @param {number} count */
async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  });
  for (const server of servers) server.close();
  return ports;
}

/** @param {string} path */
function readIfThere(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
