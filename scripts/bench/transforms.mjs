import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { rmSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { convert } from "#dist/transforms/convert.js";
import { decompress } from "#dist/transforms/decompress.js";
import { ensureImageTools } from "../image-tools.mjs";
import { ensureQemuImg } from "../qemu-img.mjs";
import { inTurns, result, secondsOf } from "./measure.mjs";

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

/**
 * Measurements of transforms alone, without an import.
 *
 * @type {import("./cases.mjs").Case[]}
 */
export const TRANSFORM_CASES = [
  {
    name: "decompress",
    about:
      "gzip, zstd and xz of a disk of 256 MiB (quick: 64), against the tool that made each, with sync",
    async run(service, { isQuick, rounds }) {
      const { ZSTD: zstd = "zstd", XZ: xz = "xz" } = await ensureImageTools();
      const transform = decompress({ zstd, xz });
      const sizeBytes = (isQuick ? 64 : 256) * MIB;
      const disk = await makeDisk(service.path("disk.raw"), sizeBytes);
      /** @type {[string, string, string][]} */
      const tools = [
        ["gzip", "gzip -1 -c", "gzip -d -c"],
        ["zstd", `${zstd} -q -c`, `${zstd} -d -c -q`],
        ["xz", `${xz} -0 -T2 -c`, `${xz} -d -c`],
      ];
      const results = [];
      for (const [name, compressed, decompressed] of tools) {
        const file = service.path(`disk.${name}`);
        await shell(`${compressed} <"$0" | cat >"$1"`, disk, file);
        const copy = service.path("decompressed");
        const times = await inTurns(
          rounds ?? (isQuick ? 1 : 5),
          () => run(transform, file, service.path("product"), service),
          async () => {
            await service.warmMemory(sizeBytes);
            const command = `${decompressed} <"$0" >"$1" && sync "$1"`;
            return secondsOf(() => shell(command, file, copy)).finally(() => {
              rmSync(copy);
            });
          },
        );
        const note = `${Math.round(statSync(file).size / MIB)} MiB compressed`;
        results.push(result(`decompress ${name}`, times, { note }));
      }
      return results;
    },
  },
  {
    name: "convert",
    about: "a disk of 1 GiB from qcow2 to raw, and back, against qemu-img convert with sync",
    async run(service, { isQuick, rounds }) {
      const qemuImg = (await ensureQemuImg()) ?? "qemu-img";
      const raw = await makeDisk(service.path("disk.raw"), GIB);
      const qcow2 = service.path("disk.qcow2");
      await shell(`${qemuImg} convert -f raw -O qcow2 "$0" "$1"`, raw, qcow2);
      const results = [];
      for (const [source, format, target] of /** @type {const} */ ([
        [qcow2, "qcow2", "raw"],
        [raw, "raw", "qcow2"],
      ])) {
        const copy = service.path("converted");
        const transform = convert({ target, qemuImg });
        const times = await inTurns(
          rounds ?? (isQuick ? 1 : 5),
          () => run(transform, source, service.path("product"), service, format),
          async () => {
            await service.warmMemory(GIB);
            const command = `${qemuImg} convert -f ${format} -O ${target} "$0" "$1" && sync "$1"`;
            return secondsOf(() => shell(command, source, copy)).finally(() => {
              rmSync(copy);
            });
          },
        );
        results.push(result(`convert ${format} to ${target}, 1 GiB`, times));
      }
      return results;
    },
  },
];

/**
 * @param {import("#dist/transforms/transform.js").Transform} transform
 * @param {string} sourcePath
 * @param {string} productPath
 * @param {import("./service.mjs").Service} service
 * @param {"raw" | "qcow2"} diskFormat
 * @returns the seconds that it took
 */
async function run(transform, sourcePath, productPath, service, diskFormat = "raw") {
  await service.warmMemory(GIB);
  const source = await open(sourcePath);
  try {
    return await secondsOf(async () =>
      transform.run({
        image: { id: "bench", epoch: 1, diskFormat, containerFormat: "bare", roles: [] },
        ...{ source, sourcePath, productPath, maxProductBytes: 1024 * GIB },
        sizeBytes: (await source.stat()).size,
        signal: new AbortController().signal,
        report: () => undefined,
      }),
    );
  } finally {
    await source.close();
    rmSync(productPath, { force: true });
  }
}

/**
 * Writes bytes like those of disks: of four MiB one cannot be compressed, two can by half, and one
 * is a hole.
 *
 * @param {string} path
 * @param {number} sizeBytes
 */
async function makeDisk(path, sizeBytes) {
  const handle = await open(path, "w");
  try {
    await handle.truncate(sizeBytes);
    for (let at = 0; at < sizeBytes; at += 4 * MIB) {
      await handle.write(randomBytes(MIB), 0, MIB, at);
      await handle.write(Buffer.from(randomBytes(MIB).toString("hex")), 0, 2 * MIB, at + MIB);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  return path;
}

/** @param {string} script @param {string[]} args */
async function shell(script, ...args) {
  const child = spawn("sh", ["-c", script, ...args], { stdio: ["ignore", "ignore", "inherit"] });
  const kill = () => child.kill();
  process.once("exit", kill);
  const [code] = /** @type {[number | null]} */ (await once(child, "exit"));
  process.off("exit", kill);
  if (code !== 0) throw new Error(`${script} ended with ${String(code)}`);
}
