/**
 * The program of one digest thread: hashes ranges of shared memory in the order of the orders. It
 * runs only in a worker thread; {@link ThreadHasher} is its other end.
 */
import { createHash } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";

/** The `workerData` of a digest thread. */
export interface DigestThreadData {
  /** Name of the hash, as node:crypto knows it. */
  readonly algorithm: string;
  readonly memory: SharedArrayBuffer;
}

/** A message to a digest thread. */
export type DigestThreadOrder =
  | { readonly kind: "hash"; readonly offsetBytes: number; readonly lengthBytes: number }
  | { readonly kind: "finish" };

/** A message from a digest thread: one per order, in the order of the orders. */
export type DigestThreadAnswer =
  { readonly kind: "hashed" } | { readonly kind: "digest"; readonly hex: string };

if (parentPort === null) throw new Error("Cannot run digest-thread: it is not in a worker thread");
const port = parentPort;

// This type is taken on trust: both ends are this file and thread-hasher.ts.
const { algorithm, memory } = workerData as DigestThreadData;
const hash = createHash(algorithm);

function carryOut(order: DigestThreadOrder): DigestThreadAnswer {
  if (order.kind === "finish") return { kind: "digest", hex: hash.digest("hex") };
  hash.update(new Uint8Array(memory, order.offsetBytes, order.lengthBytes));
  return { kind: "hashed" };
}

port.on("message", (order: DigestThreadOrder) => {
  port.postMessage(carryOut(order));
});
