import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isMainThread } from "node:worker_threads";

/** @typedef {import("#dist/stores/file-store.js").FileStore} FileStore */
/** @typedef {import("#dist/stores/store.js").CopyOrder} CopyOrder */
/** @typedef {import("#dist/stores/store.js").OpenCopy} OpenCopy */
/** @typedef {import("#dist/bytes/bandwidth-limit.js").BandwidthLimit} BandwidthLimit */
/** @typedef {import("#dist/bytes/sparse-writer.js").SparseWriter} SparseWriter */

// Node loads this before each program of a service; see `copy-holds.ts`. In a worker it holds the
// copies into file stores, in `import` and `image stage` it holds the staging, in `image download`
// the reading of a copy, in `api` the writing of uploads: while the file of a hold exists, no byte
// from the position on that the file names is copied.

const LOOK_EVERY_MS = 10;

const holds = process.env["COPY_HOLDS"] ?? "";
const [, , command = ""] = process.argv;
if (isMainThread && command === "worker") await holdCopies();
if (isMainThread && ["import", "image"].includes(command)) await holdStaging();
if (isMainThread && command === "image") await holdReading();
if (isMainThread && command === "api") await holdUploads();

async function holdCopies() {
  const { FileStore } = await import("#dist/stores/file-store.js");
  /** @type {FileStore["copy"]} */
  const copy = Reflect.get(FileStore.prototype, "copy");
  Object.assign(FileStore.prototype, {
    /** @this {FileStore} @param {CopyOrder} order */
    async copy(order) {
      const hold = holdOf(this, order.key);
      requireMiddle(hold, order.sizeBytes);
      return copy.call(this, { ...order, source: heldSource(order, hold) });
    },
  });
}

/** Ctrl-C ends the hold: the reader sees it after the block. */
async function holdReading() {
  const { FileStore } = await import("#dist/stores/file-store.js");
  const interrupted = new AbortController();
  process.once("SIGINT", () => {
    interrupted.abort();
  });
  /** @type {FileStore["open"]} */
  const open = Reflect.get(FileStore.prototype, "open");
  Object.assign(FileStore.prototype, {
    /** @this {FileStore} @param {string} key @returns {Promise<OpenCopy>} */
    async open(key) {
      const opened = await open.call(this, key);
      return {
        ...opened,
        read: async (buffer, offset, length, position) => {
          await untilReleased(holdOf(this, key), position, interrupted.signal);
          return opened.read(buffer, offset, length, position);
        },
      };
    },
  });
}

/** @param {FileStore} store @param {string} key */
function holdOf({ name }, key) {
  const [imageId = ""] = key.split(".");
  return `${name}.${imageId}`;
}

/** @param {CopyOrder} order @param {string} hold @returns {CopyOrder["source"]} */
function heldSource({ source, signal }, hold) {
  return {
    place: source.place,
    read: async (buffer, offset, length, position) => {
      await untilReleased(hold, position, signal);
      // A cancelled copy must not write the held bytes: the next attempt would find them.
      signal.throwIfAborted();
      return source.read(buffer, offset, length, position);
    },
  };
}

/** A command stages one file, and each staging has a limit of its own. */
async function holdStaging() {
  const { BandwidthLimit } = await import("#dist/bytes/bandwidth-limit.js");
  /** @type {BandwidthLimit["take"]} */
  const take = Reflect.get(BandwidthLimit.prototype, "take");
  /** @type {WeakMap<object, number>} */
  const positions = new WeakMap();
  Object.assign(BandwidthLimit.prototype, {
    /** @this {BandwidthLimit} @param {number} bytes @param {AbortSignal | undefined} signal */
    async take(bytes, signal) {
      const position = positions.get(this) ?? 0;
      positions.set(this, position + bytes);
      await untilReleased("staging", position, signal);
      return take.call(this, bytes, signal);
    },
  });
}

/** An API that a test holds writes one upload. */
async function holdUploads() {
  const { SparseWriter } = await import("#dist/bytes/sparse-writer.js");
  /** @type {SparseWriter["writeLent"]} */
  const writeLent = Reflect.get(SparseWriter.prototype, "writeLent");
  Object.assign(SparseWriter.prototype, {
    /** @this {SparseWriter} @param {Parameters<SparseWriter["writeLent"]>} args */
    async writeLent(...args) {
      await untilReleased("upload", args[2], undefined);
      return writeLent.apply(this, args);
    },
  });
}

/** @param {string} hold @param {number} position @param {AbortSignal | undefined} signal */
async function untilReleased(hold, position, signal) {
  while (signal?.aborted !== true && isHeld(hold, position)) await sleep(LOOK_EVERY_MS);
}

/** @param {string} hold @param {number} position */
function isHeld(hold, position) {
  return position >= positionOf(hold);
}

/**
 * Fails a copy that its hold would never stop.
 *
 * @param {string} hold @param {number} sizeBytes
 */
function requireMiddle(hold, sizeBytes) {
  const position = positionOf(hold);
  if (position < sizeBytes || position === Infinity) return;
  throw new Error(`The hold ${hold} begins at byte ${position} of ${sizeBytes}`);
}

/** @param {string} hold */
function positionOf(hold) {
  try {
    return Number(readFileSync(join(holds, hold), "utf8"));
  } catch {
    // There is no such hold, or the test has released it.
    return Infinity;
  }
}
