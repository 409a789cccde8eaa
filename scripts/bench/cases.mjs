import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { importWorkflowId } from "#dist/workflow/contract.js";
import { say } from "../commands.mjs";
import { ensureS5cmd } from "../s5cmd.mjs";
import { COMMAND_LINE_CASES } from "./command-line.mjs";
import { CONNECTION_CASES } from "./connections.mjs";
import { FAR_UPLOAD_CASES } from "./far-uploads.mjs";
import { HTTP_CASES } from "./http.mjs";
import { PAGE_CASES } from "./image-pages.mjs";
import { inTurns, result, secondsOf } from "./measure.mjs";
import { copyAndDigest, copyToAll, fetchWithCurl, sendWithS5cmd } from "./references.mjs";
import { openEmptySteps } from "./three-empty-steps.mjs";
import { TRANSFORM_CASES } from "./transforms.mjs";
import { WATCH_CASES } from "./watching.mjs";

const KIB = 1024;
const GIB = 1024 ** 3;

/** @typedef {import("./service.mjs").Service} Service */

/**
 * @typedef {object} Settings
 * @property {boolean} isQuick - fewer rounds, smaller images
 * @property {boolean} isLarge - also images that need much space
 * @property {number} [rounds] - default: the case's own number
 */

/**
 * A measurement. It makes its inputs and removes the images that it imported.
 *
 * @typedef {object} Case
 * @property {string} name
 * @property {string} about
 * @property {(service: Service, settings: Settings) => Promise<import("./measure.mjs").Result[]>}
 *   run
 */

/**
 * The measurements, in their order.
 *
 * @type {Case[]}
 */
export const CASES = [
  {
    name: "stage",
    about:
      "stage 1 GiB from a local file, digests included, against cp, openssl md5, openssl sha512 at once",
    async run(service, { isQuick, rounds }) {
      const file = await service.makeFile("stage", GIB);
      const times = await inTurns(
        rounds ?? (isQuick ? 2 : 5),
        async () => {
          const id = await service.createImage();
          await service.warmMemory(GIB);
          const seconds = await secondsOf(() => service.client.files.stage(id, file));
          await service.client.images.delete(id);
          return seconds;
        },
        async () => {
          await service.warmMemory(GIB);
          return copyAndDigest(file, service.path("stage.copy"));
        },
      );
      return [result("stage 1 GiB", times, { goal: 1.25 })];
    },
  },
  {
    name: "download",
    about: "web-download of 1 GiB over loopback, digests included, against curl with sync",
    async run(service, { isQuick, rounds }) {
      const file = await service.makeFile("web", GIB);
      const stop = await service.serve(file);
      const uri = `http://127.0.0.1:${service.originPort}/disk.raw`;
      /** @type {number[]} */
      const whole = [];
      try {
        const times = await inTurns(
          rounds ?? (isQuick ? 1 : 5),
          async () => {
            const id = await service.createImage();
            await service.warmMemory(GIB);
            const how = { method: /** @type {const} */ ("web-download"), uri, stores: ["linked"] };
            const { wholeSeconds, stepSeconds } = await service.import(id, how, ["fetching"]);
            await service.client.images.delete(id);
            whole.push(wholeSeconds);
            return stepSeconds;
          },
          async () => {
            await service.warmMemory(GIB);
            return fetchWithCurl(uri, service.path("curl"));
          },
        );
        return [result("download, 1 GiB", times, { note: wholeNote(whole) })];
      } finally {
        await stop();
      }
    },
  },
  {
    name: "same-file-system",
    about:
      "import of 1 and 4 GiB staged by us into one store on the same file system, against 64 KiB",
    async run(service, { isQuick, rounds }) {
      const small = await service.makeFile("small", 64 * KIB);
      /** @type {import("./measure.mjs").Result[]} */
      const results = [];
      for (const gib of isQuick ? [1] : [1, 4]) {
        const file = await service.makeFile("large", gib * GIB);
        const times = await inTurns(
          rounds ?? (isQuick ? 3 : 5),
          async () => importOnce(service, file, "linked", "wholeSeconds"),
          async () => importOnce(service, small, "linked", "wholeSeconds"),
        );
        results.push(result(`same file system, ${gib} GiB`, times, { goal: 1.5 }));
      }
      return results;
    },
  },
  {
    name: "zero-copy-off",
    about: "import of 1 and 4 GiB staged by us with zero copy off, against cp with sync",
    async run(service, { isQuick, rounds }) {
      /** @type {import("./measure.mjs").Result[]} */
      const results = [];
      for (const gib of isQuick ? [1] : [1, 4]) {
        const file = await service.makeFile("large", gib * GIB);
        const times = await inTurns(
          rounds ?? (isQuick ? 2 : 3),
          async () => importOnce(service, file, "copied", "wholeSeconds", gib * GIB),
          async () => {
            await service.warmMemory(gib * GIB);
            return copyToAll(file, [service.path("copy")]);
          },
        );
        const also = await copyAndDigest(file, service.path("copy"));
        const note = `cp, md5 and sha512 at once: ${also.toFixed(2)} s`;
        results.push(result(`zero copy off, ${gib} GiB`, times, { note }));
      }
      return results;
    },
  },
  {
    name: "foreign-data",
    about: "import of 1 GiB put into staging by another program, store on another file system",
    async run(service, { isQuick, rounds }) {
      const file = await service.makeFile("foreign", GIB);
      /** @type {number[]} */
      const whole = [];
      const times = await inTurns(
        rounds ?? (isQuick ? 2 : 5),
        async () => {
          const id = await service.createImage();
          copyFileSync(file, join(service.stack.directory.staging, id));
          const uri = service.stagingUri(id);
          await service.warmMemory(GIB, service.otherPath("warm"));
          const { wholeSeconds, stepSeconds } = await service.import(id, {
            stores: ["other"],
            uri,
          });
          await service.client.images.delete(id);
          whole.push(wholeSeconds);
          return stepSeconds;
        },
        async () => {
          await service.warmMemory(GIB, service.otherPath("warm"));
          return copyAndDigest(file, service.otherPath("copy"));
        },
      );
      return [result("foreign data, 1 GiB", times, { goal: 1.4, note: wholeNote(whole) })];
    },
  },
  {
    name: "three-stores",
    about: "1 GiB staged by us into three stores that all need bytes, against three cp at once",
    async run(service, { isQuick, rounds }) {
      const file = await service.makeFile("three", GIB);
      /** @type {number[]} */
      const whole = [];
      const times = await inTurns(
        rounds ?? (isQuick ? 2 : 3),
        async () => {
          const id = await service.stage(file);
          const stores = ["copied", "second", "third"];
          await service.warmMemory(3 * GIB);
          const { wholeSeconds, stepSeconds } = await service.import(id, { stores });
          await service.client.images.delete(id);
          whole.push(wholeSeconds);
          return stepSeconds;
        },
        async () => {
          await service.warmMemory(3 * GIB);
          const names = ["one", "two", "three.copy"];
          return copyToAll(
            file,
            names.map((name) => service.path(name)),
          );
        },
      );
      return [result("three stores, 1 GiB", times, { goal: 1.5, note: wholeNote(whole) })];
    },
  },
  {
    name: "s3",
    about: "1 GiB staged by us into S3 (versitygw), against s5cmd cp to the same server",
    async run(service, { isQuick, rounds }) {
      const { s3 } = service;
      const s5cmd = await ensureS5cmd();
      if (s5cmd === undefined || !(await s3.start())) {
        say("  skipped: see above");
        return [];
      }
      try {
        const file = await service.makeFile("s3-image", GIB);
        /** @type {number[]} */
        const whole = [];
        const times = await inTurns(
          rounds ?? (isQuick ? 2 : 5),
          async () => {
            const id = await service.stage(file);
            const { wholeSeconds, stepSeconds } = await service.import(id, { stores: ["s3"] });
            await service.client.images.delete(id);
            whole.push(wholeSeconds);
            return stepSeconds;
          },
          () => sendWithS5cmd(s5cmd, file, { endpoint: s3.endpoint, url: s3.url("reference") }),
        );
        return [result("S3, 1 GiB", times, { goal: 1.3, note: wholeNote(whole) })];
      } finally {
        await s3.stop();
      }
    },
  },
  {
    name: "sparse",
    about:
      "90 % sparse 10 GiB into a file store on another file system, against cp --sparse=always",
    async run(service, { isQuick, rounds }) {
      const file = await service.makeSparseFile("sparse", 10 * GIB);
      /** @type {number[]} */
      const whole = [];
      const times = await inTurns(
        rounds ?? (isQuick ? 1 : 3),
        async () => {
          const id = await service.stage(file);
          await service.warmMemory(GIB, service.otherPath("warm"));
          const { wholeSeconds, stepSeconds } = await service.import(id, { stores: ["other"] });
          await service.client.images.delete(id);
          whole.push(wholeSeconds);
          return stepSeconds;
        },
        async () => {
          await service.warmMemory(GIB, service.otherPath("warm"));
          return copyToAll(file, [service.otherPath("copy")], "--sparse=always");
        },
      );
      return [result("sparse, 10 GiB", times, { goal: 2, note: wholeNote(whole) })];
    },
  },
  {
    name: "small-images",
    about: "images of 64 KiB by several clients, against a workflow of three empty activities",
    async run(service, { isQuick }) {
      const file = await service.makeFile("small", 64 * KIB);
      const empty = await openEmptySteps(service);
      /** @type {import("./measure.mjs").Result[]} */
      const results = [];
      /** @type {[number, number][]} */
      const sizes = isQuick
        ? [
            [30, 1],
            [100, 16],
          ]
        : [
            [200, 1],
            [200, 16],
            [1000, 64],
          ];
      try {
        for (const [count, clients] of sizes) {
          /** @type {string[]} */
          const ids = [];
          for (let index = 0; index < count; index += 1) ids.push(await service.stage(file));
          const reference = await secondsOf(() => spread(ids, clients, () => empty.run()));
          const seconds = await secondsOf(() =>
            spread(ids, clients, (id) => service.importAlone(id)),
          );
          const { historyLength } = await service.temporal.workflow
            .getHandle(importWorkflowId(ids[0] ?? ""))
            .describe();
          const note = `${(count / seconds).toFixed(1)} images/s, ${((seconds / count) * 1000).toFixed(0)} ms per image, ${historyLength} events each`;
          const times = { measured: [seconds], references: [reference] };
          results.push(result(`${count} images, ${clients} at once`, times, { goal: 1.5, note }));
        }
      } finally {
        await empty.close();
      }
      return results;
    },
  },
  {
    name: "memory",
    about: "peak memory of the worker, 64 MiB against 4 GiB, all bytes copied",
    async run(service, { isQuick, isLarge }) {
      const sizes = [0.0625, isQuick ? 1 : 4, ...(isLarge ? [16] : [])];
      /** @type {number[]} */
      const peaks = [];
      for (const gib of sizes) {
        const file = await service.makeFile("memory", gib * GIB);
        const id = await service.createImage();
        copyFileSync(file, join(service.stack.directory.staging, id));
        service.forgetPeak();
        await service.import(id, { stores: ["copied", "second"], uri: service.stagingUri(id) });
        peaks.push(service.peakMemoryMib);
        await service.client.images.delete(id);
      }
      const [least = 0] = peaks;
      return peaks.map((peak, index) => {
        const note = index === 0 ? undefined : `${(peak - least).toFixed(0)} MiB more, goal ≤ 64`;
        const name = `worker's peak, ${(sizes[index] ?? 0) * KIB} MiB`;
        return result(name, { measured: [peak] }, { unit: "MiB", note });
      });
    },
  },
  {
    name: "cancel",
    about: "from the cancel of a copy to the removal of all its bytes",
    async run(service, { isQuick, rounds }) {
      const file = await service.makeFile("cancelled", GIB);
      /** @type {number[]} */
      const measured = [];
      for (let round = 0; round < (rounds ?? (isQuick ? 2 : 5)); round += 1) {
        const id = await service.stage(file);
        await service.client.imports.start(id, { stores: ["slow"] });
        await untilCopying(service, id);
        measured.push(await secondsOf(() => service.client.imports.cancel(id, { wait: true })));
        await service.client.images.delete(id);
      }
      return [result("cancel to clean", { measured })];
    },
  },
  ...CONNECTION_CASES,
  ...HTTP_CASES,
  ...FAR_UPLOAD_CASES,
  ...PAGE_CASES,
  ...TRANSFORM_CASES,
  ...WATCH_CASES,
  ...COMMAND_LINE_CASES,
];

/**
 * @param {Service} service @param {string} file @param {string} store @param {"wholeSeconds" |
 *   "stepSeconds"} what @param {number} writtenBytes
 */
async function importOnce(service, file, store, what, writtenBytes = 0) {
  const id = await service.stage(file);
  await service.warmMemory(writtenBytes);
  const seconds = (await service.import(id, { stores: [store] }))[what];
  await service.client.images.delete(id);
  return seconds;
}

/** @param {readonly number[]} seconds */
function wholeNote(seconds) {
  return `whole import ${seconds.map((each) => each.toFixed(2)).join(", ")} s`;
}

/**
 * Does the work for all items, `atOnce` of them at a time.
 *
 * @template Item
 * @param {readonly Item[]} items
 * @param {number} atOnce
 * @param {(item: Item) => Promise<unknown>} work
 */
async function spread(items, atOnce, work) {
  const left = [...items];
  const worker = async () => {
    for (let item = left.pop(); item !== undefined; item = left.pop()) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** @param {Service} service @param {string} id */
async function untilCopying(service, id) {
  for (;;) {
    const { stores } = await service.client.imports.status(id);
    if ((stores["slow"]?.done_bytes ?? 0) > 0) return;
    await sleep(100);
  }
}
