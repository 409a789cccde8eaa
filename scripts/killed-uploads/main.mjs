import { spawn } from "node:child_process";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createReadStream, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { readStackFile } from "#dist/config/stack-file.js";
import { parseBytes } from "#dist/domain/byte-size.js";
import { startStack } from "#dist/stack/stack.js";
import { say } from "../commands.mjs";
import { PACKAGE_ROOT } from "../prepare.mjs";
import { Gate } from "./gate.mjs";

// Kills the API, the client, the worker or Temporal (SIGKILL) in the middle of a large upload, by a
// PUT of curl or by `image-import --api`. Measures the time until the upload continues, or until
// the image is queued and nothing is left:
// `node scripts/killed-uploads.mjs [SIZE] [put|tus]/[api|client|worker|temporal]…`. By default all
// cases, with 4 GiB. Needs disk space for three times the size.

const MIB = 1024 * 1024;
/** The time after which a lost PUT must have left a queued image and nothing else. */
const QUEUED_WITHIN_SECONDS = 20;
/** The most that our client sends again. */
const AGAIN_BYTES = 4 * MIB;
/** The most that heads of requests, and requests for the offset of the upload, take. */
const HEADS_BYTES = MIB;
const PATIENCE_MS = 180_000;
const CLI = join(PACKAGE_ROOT, "dist/cli/main.js");

const VICTIMS = /** @type {const} */ (["api", "client", "worker", "temporal"]);
/** @typedef {typeof VICTIMS[number]} Victim */
/** @typedef {Exclude<Victim, "client">} Program */

const [size = "4GiB", ...only] = process.argv.slice(2);
const sizeBytes = parseBytes(size) ?? Number.NaN;
if (!Number.isInteger(sizeBytes)) throw new Error(`Cannot upload "${size}": it is not a size`);
// In the middle of a block, which a killed API has not written.
const halfBytes = sizeBytes / 2 + MIB / 2;

const directory = mkdtempSync(join(tmpdir(), "image-import-killed-"));
const dataDir = join(directory, "data");
const staging = join(dataDir, "staging");
const file = join(directory, "disk.raw");
say(`Writing ${size} of random bytes …`);
const checksum = await writeFile();
const interruption = new AbortController();
for (const name of ["SIGINT", "SIGTERM"]) {
  process.once(name, () => {
    interruption.abort(new Error("Interrupted"));
  });
}
const stack = await startStack({
  dataDir,
  temporalCli: process.env["TEMPORAL_CLI"] ?? "temporal",
  signal: interruption.signal,
});
const sql = postgres(stack.addresses.database_url, { max: 1 });
const api = stack.addresses.api_url ?? "";
/** @type {string[]} */
const failures = [];
try {
  await run("put/complete", completePut);
  for (const victim of VICTIMS) await run(`put/${victim}`, () => killedPut(victim));
  for (const victim of VICTIMS) await run(`tus/${victim}`, () => killedUpload(victim));
} finally {
  await sql.end();
  await stack.stop();
  rmSync(directory, { recursive: true, force: true });
}
for (const failure of failures) say(failure);
process.exitCode = failures.length === 0 ? 0 : 1;

/** @param {string} name @param {() => Promise<string>} work */
async function run(name, work) {
  if (interruption.signal.aborted || (only.length > 0 && !only.includes(name))) return;
  try {
    process.stdout.write(`${name.padEnd(14)} ${await work()}\n`);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    process.stdout.write(`${name.padEnd(14)} FAILED: ${reason}\n`);
    failures.push(name);
  }
}

/** Kills the API once the bytes of a PUT are complete: the image must become active. */
async function completePut() {
  const id = await createImage();
  const client = curl(api, id);
  // The upload is complete from its commit to the end of its import: a moment for small images.
  await until("the upload is complete", async () => {
    if ((await statusOf(id)) === "active") throw new Error("the import was quicker than this look");
    const [lease] = await leasesOf(id);
    return lease?.["state"] === "whole";
  });
  const killedAt = performance.now();
  await kill("api");
  await client.ended;
  await untilActive(id);
  const seconds = secondsSince(killedAt);
  await remove(id);
  return `active ${seconds} s after the death of the API`;
}

/** @param {Victim} victim */
async function killedPut(victim) {
  const id = await createImage();
  const gate = await Gate.open(api, halfBytes);
  const client = curl(gate.url, id);
  try {
    await untilHalf(gate, id);
    const killedAt = performance.now();
    if (victim === "worker" || victim === "temporal") {
      await kill(victim);
      gate.letAllThrough();
      const isDone = await client.ended;
      await untilActive(id);
      const seconds = secondsSince(killedAt);
      if (!isDone) throw new Error("curl failed");
      return `continues; active ${seconds} s after the kill`;
    }
    if (victim === "client") {
      client.kill();
      gate.cut();
    } else await kill("api");
    await until("the image is queued and nothing is left", async () => {
      return (await statusOf(id)) === "queued" && (await isGone(id));
    });
    const seconds = secondsSince(killedAt);
    if (Number(seconds) > QUEUED_WITHIN_SECONDS) throw new Error(`queued only after ${seconds} s`);
    return `queued, and nothing left, ${seconds} s after the kill`;
  } finally {
    client.kill();
    gate.close();
    await untilUp();
    await remove(id);
  }
}

/** @param {Victim} victim */
async function killedUpload(victim) {
  const id = randomUUID();
  const gate = await Gate.open(api, halfBytes);
  let client = imageImport(gate.url, id);
  try {
    await untilHalf(gate, id);
    const sentBytes = gate.passedBytes;
    const killedAt = performance.now();
    if (victim === "client") {
      client.kill();
      gate.cut();
    } else await kill(victim);
    const [lease, ...others] = await leasesOf(id);
    const files = filesOf(id);
    if (lease === undefined || others.length > 0 || files.length !== 1) {
      throw new Error(`one part and one lease expected: ${files.join(", ")}`);
    }
    gate.letAllThrough();
    if (victim === "client") client = imageImport(gate.url, id);
    const grown = async () => {
      const [part] = filesOf(id);
      return part === undefined || sizeOf(part) > sentBytes + MIB;
    };
    await until("the upload continues", grown);
    const continued = secondsSince(killedAt);
    if (!(await client.ended)) throw new Error("the client failed");
    await untilActive(id);
    const again = gate.passedBytes - sizeBytes;
    if (again > AGAIN_BYTES + HEADS_BYTES) {
      throw new Error(`${(again / MIB).toFixed(1)} MiB were sent again`);
    }
    return `continues ${continued} s after the kill; ${(again / MIB).toFixed(1)} MiB more sent than the file has; active after ${secondsSince(killedAt)} s`;
  } finally {
    client.kill();
    gate.close();
    await untilUp();
    await remove(id);
  }
}

/** @param {Gate} gate @param {string} id */
async function untilHalf(gate, id) {
  await until("half of the bytes are sent", () => Promise.resolve(gate.isReached));
  // The part has the bytes that the API has read, except for the block that it is filling.
  await until("half of the bytes are there", () => {
    const [part = ""] = filesOf(id);
    return Promise.resolve(sizeOf(part) > halfBytes - 8 * MIB);
  });
}

/** Puts the file with curl. @param {string} url @param {string} id */
function curl(url, id) {
  const type = "content-type: application/octet-stream";
  const target = `${url}/v2/images/${id}/file`;
  return client("curl", ["-sS", "-f", "-H", type, "-T", file, target], {});
}

/** @param {string} url @param {string} id */
function imageImport(url, id) {
  const args = [CLI, "--api", url, "import", "--id", id, "--quiet", file];
  return client(process.execPath, args, { IMAGE_IMPORT_DATA_DIR: join(directory, "nowhere") });
}

/** @param {string} command @param {readonly string[]} args @param {NodeJS.ProcessEnv} env */
function client(command, args, env) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: "ignore" });
  const ended = once(child, "exit").then(([code]) => code === 0);
  return { ended, kill: () => child.kill("SIGKILL") };
}

/** Kills a program of the stack, which starts it again. @param {Program} program */
async function kill(program) {
  const pid = readStackFile(dataDir)?.pids[program];
  if (pid == null) throw new Error(`${program} does not run`);
  process.kill(pid, "SIGKILL");
  await until(`${program} is dead`, () => {
    return Promise.resolve(readStackFile(dataDir)?.pids[program] !== pid);
  });
}

async function untilUp() {
  await until("all programs run again", async () => {
    const ready = await fetch(`${api}/readyz`).catch(() => undefined);
    return readStackFile(dataDir)?.state === "ready" && ready?.status === 200;
  });
}

async function createImage() {
  const answer = await fetch(`${api}/v2/images`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: "killed", disk_format: "raw", container_format: "bare" }),
  });
  const { id } = /** @type {{ id: string }} */ (await answer.json());
  return id;
}

/** @param {string} id */
async function remove(id) {
  await fetch(`${api}/v2/images/${id}`, { method: "DELETE" });
  await until("the image is deleted", async () => {
    const [row] = await sql`SELECT status FROM images WHERE id = ${id}`;
    return row === undefined || row["status"] === "deleted";
  });
}

/**
 * Waits until an image is active with the right bytes, and its upload is gone. @param {string} id
 */
async function untilActive(id) {
  await until("the image is active", async () => (await statusOf(id)) === "active");
  const [row] = await sql`SELECT checksum FROM images WHERE id = ${id}`;
  if (row?.["checksum"] !== checksum) throw new Error("the image has other bytes");
  await until("the upload is removed", () => isGone(id));
}

/** @param {string} id */
async function statusOf(id) {
  const [row] = await sql`SELECT status FROM images WHERE id = ${id}`;
  return /** @type {unknown} */ (row?.["status"]);
}

/** @param {string} id */
async function leasesOf(id) {
  return sql`SELECT state FROM leases WHERE image_id = ${id} AND place = 'upload'`;
}

/** @param {string} id */
async function isGone(id) {
  return filesOf(id).length === 0 && (await leasesOf(id)).length === 0;
}

/** @param {string} id */
function filesOf(id) {
  return readdirSync(staging).filter((name) => name.startsWith(id));
}

/** @param {string} name */
function sizeOf(name) {
  return statSync(join(staging, name), { throwIfNoEntry: false })?.size ?? 0;
}

/** @param {string} what @param {() => Promise<boolean>} condition */
async function until(what, condition) {
  const giveUpAt = performance.now() + PATIENCE_MS;
  while (!(await condition())) {
    interruption.signal.throwIfAborted();
    if (performance.now() > giveUpAt) throw new Error(`waited in vain until ${what}`);
    await sleep(5);
  }
}

/** @param {number} startedAt */
function secondsSince(startedAt) {
  return ((performance.now() - startedAt) / 1000).toFixed(1);
}

/** Writes the file to upload. @returns its md5 */
async function writeFile() {
  const handle = await open(file, "w");
  for (let done = 0; done < sizeBytes; done += MIB) {
    await handle.write(randomBytes(Math.min(MIB, sizeBytes - done)));
  }
  await handle.close();
  const hash = createHash("md5");
  for await (const chunk of createReadStream(file, { highWaterMark: MIB })) {
    hash.update(/** @type {Buffer} */ (chunk));
  }
  return hash.digest("hex");
}
