import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { readStackFile } from "#dist/config/stack-file.js";
import { findFreePort } from "#dist/stack/ports.js";
import { ensureSystemTool } from "../system-tool.mjs";
import { inTurns, result } from "./measure.mjs";
import { copyAndDigest, receiveWithCurl, sendWithCurl } from "./references.mjs";

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const PUT_FILE = fileURLToPath(new URL("put-file.mjs", import.meta.url));

/** @typedef {import("./service.mjs").Service} Service */

/**
 * Measurements of the HTTP API.
 *
 * @type {import("./cases.mjs").Case[]}
 */
export const HTTP_CASES = [
  {
    name: "http-put",
    about:
      "PUT of 4 GiB to active over loopback, against cp, openssl md5, openssl sha512 at once; and from the last byte to the answer",
    async run(service, { isQuick, rounds }) {
      const sizeBytes = isQuick ? GIB : 4 * GIB;
      const file = await service.makeFile("put", sizeBytes);
      /** @type {number[]} */
      const afterLastByte = [];
      const times = await inTurns(
        rounds ?? (isQuick ? 2 : 3),
        async () => {
          const id = await service.createImage();
          await service.warmMemory(sizeBytes);
          const { seconds, afterLastByteSeconds } = await upload(service, id, file);
          afterLastByte.push(afterLastByteSeconds);
          await service.client.images.delete(id);
          return seconds;
        },
        async () => {
          await service.warmMemory(sizeBytes);
          return copyAndDigest(file, service.path("put.copy"));
        },
      );
      return [
        result(`PUT ${sizeBytes / GIB} GiB`, times, { goal: 1.4 }),
        result("last byte to active", { measured: afterLastByte }, { note: "goal: 0.5 s" }),
      ];
    },
  },
  {
    name: "http-get",
    about: "GET of 4 GiB over loopback to /dev/null, against nginx with the same file",
    async run(service, { isQuick, rounds }) {
      const sizeBytes = isQuick ? GIB : 4 * GIB;
      const file = await service.makeFile("get", sizeBytes);
      const id = await service.createImage();
      await upload(service, id, file);
      const nginx = await startNginx(service);
      try {
        const times = await inTurns(
          rounds ?? (isQuick ? 3 : 5),
          async () => receiveWithCurl(`${apiOf(service)}/v2/images/${id}/file`),
          async () => receiveWithCurl(`${nginx.url}/get`),
        );
        return [result(`GET ${sizeBytes / GIB} GiB`, times, { goal: 1.25 })];
      } finally {
        await nginx.stop();
        await service.client.images.delete(id);
      }
    },
  },
  {
    name: "http-memory",
    about: "memory of the API with 64 uploads of 256 MiB at once",
    async run(service, { isQuick }) {
      const file = await service.makeFile("memory", (isQuick ? 32 : 256) * MIB);
      const pid = readStackFile(service.stack.addresses.data_dir)?.pids.api;
      if (pid == null) throw new Error("The stack has no API");
      const before = residentMib(pid);
      const sampler = new Sampler(pid);
      const ids = await Promise.all(Array.from({ length: 64 }, () => service.createImage()));
      await Promise.all(ids.map((id) => sendWithCurl(file, dataUrl(service, id))));
      const measured = await sampler.end();
      for (const id of ids) await service.client.images.delete(id);
      return [
        result(
          "64 uploads at once",
          { measured: [measured] },
          {
            unit: "MiB",
            note: `resident at most; ${before.toFixed(0)} MiB before; goal: 256 MiB`,
          },
        ),
      ];
    },
  },
];

/** @param {Service} service */
function apiOf({ stack }) {
  return stack.addresses.api_url ?? "";
}

/**
 * Sends a file as the data of an image, in a process of its own, until the image is active.
 *
 * @param {Service} service
 * @param {string} id
 * @param {string} file
 * @returns {Promise<{ seconds: number, afterLastByteSeconds: number }>}
 */
async function upload(service, id, file) {
  const { stdout } = await promisify(execFile)(process.execPath, [
    PUT_FILE,
    dataUrl(service, id),
    file,
  ]);
  return JSON.parse(stdout);
}

/** @param {Service} service @param {string} id */
function dataUrl(service, id) {
  return `${apiOf(service)}/v2/images/${id}/file`;
}

/** Serves the scratch directory with nginx. @param {Service} service */
async function startNginx(service) {
  const nginx = await ensureSystemTool({
    program: "nginx",
    versionOption: "-v",
    packageName: "nginx-light",
    variable: "NGINX",
  });
  if (nginx === undefined) throw new Error("Cannot compare with nginx: there is none, see above");
  const directory = service.path("nginx");
  mkdirSync(directory, { recursive: true });
  const port = await findFreePort();
  const config = `${directory}/nginx.conf`;
  writeFileSync(
    config,
    `daemon off; pid ${directory}/pid; error_log ${directory}/error.log; user root;
events {}
http {
  access_log off; sendfile on; tcp_nopush on;
  client_body_temp_path ${directory}/a; proxy_temp_path ${directory}/b;
  fastcgi_temp_path ${directory}/c; uwsgi_temp_path ${directory}/d; scgi_temp_path ${directory}/e;
  server { listen 127.0.0.1:${String(port)}; root ${service.path("")}; }
}
`,
  );
  const child = spawn(nginx, ["-c", config, "-e", `${directory}/error.log`], { stdio: "ignore" });
  const url = `http://127.0.0.1:${String(port)}`;
  for (;;) {
    if (child.exitCode !== null) throw new Error(readFileSync(`${directory}/error.log`, "utf8"));
    const isUp = await fetch(url).then(
      () => true,
      () => false,
    );
    if (isUp) break;
    await sleep(50);
  }
  return {
    url,
    stop: async () => {
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
    },
  };
}

/** @param {number} pid @returns the memory of a process that is in RAM, in MiB */
function residentMib(pid) {
  const [, kib = "0"] =
    /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${String(pid)}/status`, "utf8")) ?? [];
  return Number(kib) / 1024;
}

/** Looks at the memory of a process again and again, until {@link end}. */
class Sampler {
  #most = 0;
  #isEnded = false;
  #looking;

  /** @param {number} pid */
  constructor(pid) {
    this.#looking = this.#look(pid);
  }

  /** @param {number} pid */
  async #look(pid) {
    while (!this.#isEnded) {
      this.#most = Math.max(this.#most, residentMib(pid));
      await sleep(100);
    }
  }

  /** @returns the most memory that was seen, in MiB */
  async end() {
    this.#isEnded = true;
    await this.#looking;
    return this.#most;
  }
}
