import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  createWriteStream,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { randomBytes } from "node:crypto";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Client, Connection } from "@temporalio/client";
import { ImageImportClient } from "#dist/client/image-import-client.js";
import { readConfig } from "#dist/config/config.js";
import { startStack } from "#dist/stack/stack.js";
import { findFreePort } from "#dist/stack/ports.js";
import { secondsOf } from "./measure.mjs";
import { S3Server } from "./s3-server.mjs";

const MIB = 1024 * 1024;
const SHARED_MEMORY = "/dev/shm";
// statfs(2), TMPFS_MAGIC.
const TMPFS = 0x01021994;

/** @typedef {Parameters<ImageImportClient["imports"]["start"]>[1]} ImportOptions */

/**
 * Starts a complete stack for the benchmark, with stores of every kind that the cases need.
 *
 * @param {AbortSignal} signal - ends the start
 */
export async function openService(signal) {
  const directory = mkdtempSync(join(tmpdir(), "image-import-bench-"));
  const other = mkdtempSync(join(SHARED_MEMORY, "image-import-bench-"));
  /** @type {import("#dist/stack/stack.js").Stack | undefined} */
  let stack;
  try {
    const s3 = await S3Server.in(join(directory, "s3"));
    const originPort = await findFreePort();
    writeConfig(join(directory, "data"), other, s3, originPort);
    giveCredentials(s3);
    stack = await startStack({
      dataDir: join(directory, "data"),
      temporalCli: process.env["TEMPORAL_CLI"] ?? "temporal",
      signal,
    });
    const { addresses } = stack;
    const connection = await Connection.connect({ address: addresses.temporal_address });
    const temporal = new Client({ connection });
    const client = await ImageImportClient.connect({
      temporal: { address: addresses.temporal_address },
      databaseUrl: addresses.database_url,
      config: readConfig(addresses.config),
    });
    return new Service({ directory, other, s3, originPort, stack, connection, temporal, client });
  } catch (error) {
    await stack?.stop();
    for (const path of [directory, other]) rmSync(path, { recursive: true, force: true });
    throw error;
  }
}

/**
 * @typedef {object} ServiceParts
 * @property {string} directory
 * @property {string} other - a directory on another file system
 * @property {S3Server} s3
 * @property {number} originPort
 * @property {import("#dist/stack/stack.js").Stack} stack
 * @property {Connection} connection
 * @property {Client} temporal
 * @property {ImageImportClient} client
 */

/** The stack of the benchmark, and the operations that its cases measure. */
export class Service {
  #directory;
  #other;
  #connection;

  /** @param {ServiceParts} parts */
  constructor({ directory, other, s3, originPort, stack, connection, temporal, client }) {
    this.#directory = directory;
    this.#other = other;
    this.#connection = connection;
    this.s3 = s3;
    this.originPort = originPort;
    this.stack = stack;
    this.temporal = temporal;
    this.client = client;
  }

  get otherFileSystem() {
    const { type } = statfsSync(this.#other);
    return `${SHARED_MEMORY} (${type === TMPFS ? "tmpfs" : `type 0x${type.toString(16)}`})`;
  }

  /** A scratch path on the file system of the staging area. @param {string} name */
  path(name) {
    return join(this.#directory, name);
  }

  /** A scratch path on the other file system. @param {string} name */
  otherPath(name) {
    return join(this.#other, name);
  }

  /**
   * Writes a file of random bytes; it is in the page cache. @param {string} name @param {number}
   * sizeBytes
   */
  async makeFile(name, sizeBytes) {
    const path = this.path(name);
    const stream = createWriteStream(path);
    for (let left = sizeBytes; left > 0; left -= MIB) {
      if (!stream.write(randomBytes(Math.min(MIB, left)))) await once(stream, "drain");
    }
    stream.end();
    await once(stream, "finish");
    return path;
  }

  /**
   * Writes random bytes to every tenth MiB of a file, with holes between. @param {string} name
   * @param {number} sizeBytes
   */
  async makeSparseFile(name, sizeBytes) {
    const path = this.path(name);
    writeFileSync(path, "");
    truncateSync(path, sizeBytes);
    for (let start = 0; start < sizeBytes; start += 10 * MIB) {
      const stream = createWriteStream(path, { flags: "r+", start });
      stream.end(randomBytes(MIB));
      await once(stream, "finish");
    }
    return path;
  }

  async createImage() {
    const { id } = await this.client.images.create({ diskFormat: "raw", containerFormat: "bare" });
    return id;
  }

  /** Creates an image with this file as its upload. @param {string} file */
  async stage(file) {
    const id = await this.createImage();
    await this.client.files.stage(id, file);
    return id;
  }

  /**
   * Writes and frees as much memory as is about to be filled. A virtual machine returns free memory
   * to its host within seconds. The first write after that would be slower, be it ours or that of
   * the reference.
   *
   * @param {number} sizeBytes
   */
  async warmMemory(sizeBytes, path = this.path("warm")) {
    const handle = await open(path, "w");
    try {
      const block = Buffer.alloc(MIB, 1);
      for (let done = 0; done < sizeBytes; done += MIB) await handle.write(block);
    } finally {
      await handle.close();
      rmSync(path, { force: true });
    }
  }

  /** Imports an image with an upload. @param {string} id @param {ImportOptions} options */
  async importAlone(id, options = {}) {
    const { run_id: runId } = await this.client.imports.start(id, options);
    await this.client.imports.wait(id, runId);
  }

  /**
   * Serves a file on `originPort`, from a process of its own.
   *
   * @param {string} file
   * @param {{ bytesPerSecond?: number }} pace
   * @returns the function that stops it
   */
  async serve(file, { bytesPerSecond } = {}) {
    const program = fileURLToPath(new URL("./origin.mjs", import.meta.url));
    const pace = bytesPerSecond === undefined ? [] : [String(bytesPerSecond)];
    const origin = spawn(process.execPath, [program, String(this.originPort), file, ...pace], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(origin.stdout, "data");
    return async () => {
      origin.kill();
      await once(origin, "exit");
    };
  }

  /**
   * Imports an image with an upload.
   *
   * @param {string} id
   * @param {ImportOptions} options
   * @param {readonly string[]} steps
   * @returns the seconds of the complete import, and those of its byte steps by their own clock
   */
  async import(id, options = {}, steps = ["verifying", "storing"]) {
    const wholeSeconds = await secondsOf(() => this.importAlone(id, options));
    const { phases } = await this.client.imports.status(id);
    const stepSeconds = phases
      .filter(({ phase }) => steps.includes(phase))
      .reduce(
        (sum, each) => sum + (Date.parse(each.ended_at ?? "") - Date.parse(each.started_at)) / 1000,
        0,
      );
    return { wholeSeconds, stepSeconds };
  }

  /** @param {string} name */
  stagingUri(name) {
    return pathToFileURL(join(this.stack.directory.staging, name)).href;
  }

  /** The most memory that the worker used since {@link forgetPeak}, in MiB. */
  get peakMemoryMib() {
    const status = readFileSync(`/proc/${this.#workerPid}/status`, "utf8");
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
  }

  /** Begins a new peak. */
  forgetPeak() {
    // proc(5): 5 resets the peak resident set size.
    writeFileSync(`/proc/${this.#workerPid}/clear_refs`, "5");
  }

  get #workerPid() {
    const path = join(this.stack.directory.path, "stack.json");
    /** @type {{ pids: { worker: number } }} */
    const { pids } = JSON.parse(readFileSync(path, "utf8"));
    return pids.worker;
  }

  async close() {
    await this.client.close();
    await this.#connection.close();
    await this.stack.stop();
    await this.s3.stop();
    for (const path of [this.#directory, this.#other])
      rmSync(path, { recursive: true, force: true });
  }
}

/** @param {string} dataDir @param {string} other @param {S3Server} s3 @param {number} originPort */
function writeConfig(dataDir, other, s3, originPort) {
  const stores = {
    linked: { path: "stores/linked" },
    copied: { path: "stores/copied", zero_copy: false },
    second: { path: "stores/second", zero_copy: false },
    third: { path: "stores/third", zero_copy: false },
    other: { path: join(other, "store") },
    slow: { path: "stores/slow", zero_copy: false, bandwidth_limit: "50MiB" },
  };
  const fileStores = Object.entries(stores).map(([name, store]) => [
    name,
    { type: "file", ...store },
  ]);
  const config = {
    default_store: "linked",
    stores: { ...Object.fromEntries(fileStores), s3: s3.store },
    sources: { web: { ports: [originPort], allowed_networks: ["127.0.0.0/8"] } },
  };
  for (const { path } of Object.values(stores)) {
    mkdirSync(path.startsWith("/") ? path : join(dataDir, path), { recursive: true });
  }
  // JSON is YAML.
  writeFileSync(join(dataDir, "image-import.yaml"), JSON.stringify(config, null, 2));
}

/**
 * Gives the credentials to all processes that are started from here. They must not find a profile
 * or a region of the user's own.
 *
 * @param {S3Server} s3
 */
function giveCredentials({ env }) {
  for (const name of Object.keys(process.env)) {
    if (name.startsWith("AWS_")) Reflect.deleteProperty(process.env, name);
  }
  Object.assign(process.env, env);
}
