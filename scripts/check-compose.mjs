import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PACKAGE_ROOT, prepare } from "./prepare.mjs";
import { say } from "./commands.mjs";
import { ensureTemporalCli } from "./temporal-cli.mjs";
import { ensureTemporalServer } from "./temporal-server.mjs";
import { ensureVersitygw } from "./versitygw.mjs";

// Runs the processes of docker-compose.yml on this machine, each with its environment, script and
// configuration from that file. Host names, ports and paths of containers are replaced by those of
// this machine. Imports one image into all stores through them. Needs Go for Temporal's server,
// which is built once (minutes).

/** @typedef {Record<string, string>} Environment */
/**
 * @typedef {object} Service - of docker-compose.yml
 * @property {Environment} environment
 * @property {string[]} entrypoint
 * @property {string[]} command
 * @property {{ test: string[] }} healthcheck
 */
/**
 * @typedef {object} Compose - docker-compose.yml
 * @property {Record<"postgres" | "temporal" | "temporal-schema" | "temporal-namespace" | "s3" |
 *   "worker" | "api" | "migrate", Service>} services
 * @property {{ "image-import": { content: string } }} configs
 */
/** @typedef {Record<string, number>} Ports */

/** The `interval` of the health checks of the worker and the API. */
const HEALTH_INTERVAL_MS = 10_000;

await prepare();
const { parse } = await import("yaml");
const { findFreePort } = await import("#dist/stack/ports.js");
const { PostgresServer } = await import("#dist/stack/postgres-server.js");
const { Program, waitUntilReady } = await import("#dist/stack/program.js");

const directory = mkdtempSync(join(tmpdir(), "image-import-compose-"));
/** @type {Environment} */
const secrets = {
  POSTGRES_PASSWORD: randomBytes(12).toString("hex"),
  S3_SECRET_KEY: randomBytes(20).toString("hex"),
};
/** @type {import("#dist/stack/program.js").Program[]} */
const programs = [];

try {
  await checkCompose();
  say("docker-compose.yml works");
} finally {
  for (const program of programs.reverse()) await program.stop();
  rmSync(directory, { recursive: true, force: true });
}

async function checkCompose() {
  const temporalCli = await ensureTemporalCli();
  const server = await ensureTemporalServer();
  const versitygw = await ensureVersitygw();
  if (versitygw === undefined)
    throw new Error("Cannot check docker-compose.yml: there is no versitygw, see above");
  const ports = await choosePorts();
  const compose = readCompose(ports);
  const { services } = compose;

  await startPostgres(services.postgres, ports);
  say("postgres responds");

  const tools = `${join(temporalCli, "..")}:${join(server.sqlTool, "..")}:${process.env["PATH"]}`;
  const schemaEnv = { ...services["temporal-schema"].environment, SCHEMA_DIR: server.schemaDir };
  runScript("temporal-schema", services["temporal-schema"], { ...schemaEnv, PATH: tools });

  const temporal = start("temporal", [server.server, "start"], {
    ...services.temporal.environment,
    ...temporalPorts(ports),
    BIND_ON_IP: "127.0.0.1",
    DYNAMIC_CONFIG_FILE_PATH: emptyFile("dynamic-config.yaml"),
  });
  const namespace = services["temporal-namespace"];
  runScript("temporal-namespace", namespace, { ...namespace.environment, PATH: tools });
  if (temporal.process === undefined) throw new Error("The Temporal server did not start");

  await startS3(services.s3, versitygw);
  say("s3 responds");

  const config = writeConfig(compose.configs["image-import"].content);
  const worker = { ...services.worker.environment, IMAGE_IMPORT_CONFIG: config };
  imageImport(services.migrate.command, {
    ...services.migrate.environment,
    IMAGE_IMPORT_CONFIG: config,
  });
  const running = start(
    "worker",
    [process.execPath, join(PACKAGE_ROOT, "dist/cli/main.js"), "worker"],
    worker,
  );
  await waitUntilReady(running, () => running.isReady);
  say("worker polls");

  const file = join(directory, "disk.raw");
  writeFileSync(file, randomBytes(8 * 1024 * 1024));
  imageImport(["stores", "--check"], worker);
  const { stores } = readStores(compose.configs["image-import"].content);
  imageImport(
    ["import", file, ...Object.keys(stores).flatMap((name) => ["--store", name])],
    worker,
  );
  imageImport(["image", "verify", "--all"], worker);
  imageImport(["doctor"], worker);
  await checkHealth("worker", services.worker.healthcheck);
  say("worker is healthy");
  await checkApi(compose, config);
}

/**
 * Starts the API, and asks it with a token and without.
 *
 * @param {Compose} compose
 * @param {string} config - path of the configuration
 */
async function checkApi({ services: { api } }, config) {
  const token = randomBytes(32).toString("base64url");
  const digest = createHash("sha256").update(token).digest("hex");
  const entry = { digest: `sha256:${digest}`, user: "check", project: "check", roles: ["admin"] };
  writeFileSync(join(directory, "tokens.yaml"), JSON.stringify({ tokens: [entry] }));
  const running = start(
    "api",
    [process.execPath, join(PACKAGE_ROOT, "dist/cli/main.js"), ...api.command],
    { ...api.environment, IMAGE_IMPORT_CONFIG: config },
  );
  await waitUntilReady(running, () => running.isReady);
  await checkHealth("api", api.healthcheck);
  const [address = ""] = /http:[^"]*(?=\/readyz)/.exec(api.healthcheck.test.join(" ")) ?? [];
  const refused = await fetch(`${address}/v2/images`);
  const answered = await fetch(`${address}/v2/images`, { headers: { "x-auth-token": token } });
  if (refused.status !== 401 || answered.status !== 200) {
    throw new Error(`The API answers ${refused.status} and ${answered.status}, not 401 and 200`);
  }
  say("api serves those with a token");
}

/** @param {string} config @returns {{ stores: Record<string, unknown> }} */
function readStores(config) {
  return /** @type {{ stores: Record<string, unknown> }} */ (parse(config));
}

async function choosePorts() {
  const names = [
    "postgres",
    "frontend",
    "http",
    "history",
    "matching",
    "worker",
    "s3",
    "health",
    "metrics",
    "api",
  ];
  const members = ["frontendMembers", "historyMembers", "matchingMembers", "workerMembers"];
  /** @type {Ports} */
  const ports = {};
  for (const name of [...names, ...members]) ports[name] = await findFreePort();
  return ports;
}

/** @param {Ports} ports */
function temporalPorts(ports) {
  return {
    FRONTEND_GRPC_PORT: String(ports["frontend"]),
    FRONTEND_HTTP_PORT: String(ports["http"]),
    FRONTEND_MEMBERSHIP_PORT: String(ports["frontendMembers"]),
    HISTORY_GRPC_PORT: String(ports["history"]),
    HISTORY_MEMBERSHIP_PORT: String(ports["historyMembers"]),
    MATCHING_GRPC_PORT: String(ports["matching"]),
    MATCHING_MEMBERSHIP_PORT: String(ports["matchingMembers"]),
    WORKER_GRPC_PORT: String(ports["worker"]),
    WORKER_MEMBERSHIP_PORT: String(ports["workerMembers"]),
  };
}

/**
 * The file, with the containers' names, ports and paths replaced by those of this machine.
 *
 * @param {Ports} ports
 */
function readCompose(ports) {
  const text = readFileSync(join(PACKAGE_ROOT, "docker-compose.yml"), "utf8")
    .replaceAll(/\$\{(\w+):\?[^}]*\}/g, (_, /** @type {string} */ name) => secrets[name] ?? "")
    .replaceAll("postgres:5432", `127.0.0.1:${portOf(ports, "postgres")}`)
    .replaceAll('"5432"', `"${portOf(ports, "postgres")}"`)
    .replaceAll("temporal:7233", `127.0.0.1:${portOf(ports, "frontend")}`)
    .replaceAll(/(SQL_HOST|POSTGRES_SEEDS): postgres/g, "$1: 127.0.0.1")
    .replaceAll("s3:7070", `127.0.0.1:${portOf(ports, "s3")}`)
    .replaceAll('":7070"', `"127.0.0.1:${portOf(ports, "s3")}"`)
    .replaceAll("127.0.0.1:7070", `127.0.0.1:${portOf(ports, "s3")}`)
    .replaceAll("127.0.0.1:9292", `127.0.0.1:${portOf(ports, "api")}`)
    .replaceAll("identity: tokens", `identity: tokens\n        port: ${portOf(ports, "api")}`)
    .replaceAll("/etc/image-import-tokens.yaml", join(directory, "tokens.yaml"))
    .replaceAll("9464", String(portOf(ports, "metrics")))
    .replaceAll("9465", String(portOf(ports, "health")))
    .replaceAll("/var/lib/image-import", join(directory, "data"))
    .replaceAll("/var/lib/versitygw", join(directory, "objects"))
    .replaceAll("$$", "$");
  return /** @type {Compose} */ (parse(text, { merge: true }));
}

/** @param {Ports} ports @param {string} name */
function portOf(ports, name) {
  return ports[name] ?? 0;
}

/**
 * Starts a server like that of the image: the named user owns everything, and the named database
 * exists.
 *
 * @param {Service} service
 * @param {Ports} ports
 */
async function startPostgres({ environment }, ports) {
  const { default: postgres } = await import("postgres");
  const server = new PostgresServer({
    directory: join(directory, "postgres"),
    port: portOf(ports, "postgres"),
    logFile: join(directory, "postgres.log"),
  });
  await server.prepare();
  const program = server.start();
  programs.push(program);
  await waitUntilReady(program, async () => server.isReady());
  const { POSTGRES_USER: user, POSTGRES_PASSWORD: secret, POSTGRES_DB: database } = environment;
  const sql = postgres(server.url("postgres"), { max: 1 });
  // The embedded server's own role has this name already; only the password is the file's.
  await sql.unsafe(`ALTER ROLE "${user}" PASSWORD '${secret}'`);
  await sql.unsafe(`CREATE DATABASE "${database}"`);
  await sql.end();
}

/**
 * Starts versitygw. Returns once the address of its health check responds.
 *
 * @param {Service} service
 * @param {string} versitygw
 */
async function startS3({ entrypoint, command, environment, healthcheck }, versitygw) {
  const env = { ...environment, PATH: `${join(versitygw, "..")}:${process.env["PATH"]}` };
  const program = start("s3", [entrypoint[0] ?? "", ...entrypoint.slice(1), ...command], env);
  await waitUntilReady(program, async () => (await fetch(healthcheck.test.at(-1) ?? "")).ok);
}

/**
 * Runs a health check as Docker does, which calls a container unhealthy after three failures.
 *
 * @param {string} name
 * @param {Service["healthcheck"]} healthcheck
 */
async function checkHealth(name, { test: [, ...command] }) {
  for (let failures = 0; ; failures += 1) {
    if (failures > 0) await sleep(HEALTH_INTERVAL_MS);
    const result = spawnSync(process.execPath, command.slice(1), {
      encoding: "utf8",
      timeout: 10_000,
    });
    if (result.status === 0) return;
    if (failures === 2) throw new Error(`The ${name} is not healthy: ${result.stdout}`);
  }
}

/** @param {string} name @param {Service} service @param {Environment} env */
function runScript(name, { entrypoint, command }, env) {
  const [shell = "", ...options] = entrypoint;
  const result = spawnSync(shell, [...options, ...command], {
    env: { HOME: directory, ...env },
    encoding: "utf8",
    timeout: 90_000,
  });
  if (result.status !== 0) throw new Error(`${name} failed: ${result.stdout}${result.stderr}`);
  say(`${name} is done`);
}

/** @param {string[]} args @param {Environment} environment */
function imageImport(args, environment) {
  const env = { PATH: process.env["PATH"], HOME: directory, ...environment };
  const cli = join(PACKAGE_ROOT, "dist/cli/main.js");
  const result = spawnSync(process.execPath, [cli, ...args], {
    env,
    encoding: "utf8",
    timeout: 90_000,
  });
  process.stderr.write(result.stdout + result.stderr);
  if (result.status !== 0)
    throw new Error(`image-import ${args.join(" ")} ended with ${result.status}`);
}

/** @param {string} name @param {readonly [string, ...string[]]} command @param {Environment} env */
function start(name, command, env) {
  const program = new Program({
    name,
    command,
    env: { PATH: process.env["PATH"], HOME: directory, ...env },
    logFile: join(directory, `${name}.log`),
    stop: { signal: "SIGTERM", withinMs: 30_000 },
    hasChannel: name === "worker" || name === "api",
  });
  programs.push(program);
  return program;
}

/** @param {string} content */
function writeConfig(content) {
  for (const name of ["staging", "stores/local"]) {
    mkdirSync(join(directory, "data", name), { recursive: true });
  }
  const path = join(directory, "image-import.yaml");
  writeFileSync(path, content);
  return path;
}

/** @param {string} name */
function emptyFile(name) {
  const path = join(directory, name);
  writeFileSync(path, "{}\n");
  return path;
}
