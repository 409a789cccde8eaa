/**
 * The program of one digest thread: hashes ranges of shared memory in the order in which they are
 * named. Runs in a worker thread only; {@link ThreadHasher} is its other end.
 */
import { createHash } from "node:crypto";
import { parentPort, workerData } from "node:worker_threads";

/** What a digest thread is started with. */
export interface DigestThreadData {
  /** Name of the hash, as node:crypto knows it. */
  readonly algorithm: string;
  readonly memory: SharedArrayBuffer;
}

/** What a digest thread is told. */
export type DigestThreadOrder =
  | { readonly kind: "hash"; readonly offsetBytes: number; readonly lengthBytes: number }
  | { readonly kind: "finish" };

/** What a digest thread answers: once per order, in the order of the orders. */
export type DigestThreadAnswer =
  { readonly kind: "hashed" } | { readonly kind: "digest"; readonly hex: string };

if (parentPort === null) throw new Error("Cannot run digest-thread: it is not in a worker thread");
const port = parentPort;

// The one edge where a type is taken on trust: both ends are this file and thread-hasher.ts.
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
