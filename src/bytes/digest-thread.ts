/**
 * The program of one digest thread: hashes blocks of shared memory, for many streams, in the order
 * of the orders. It runs only in a worker thread; {@link DigestThread} is its other end.
 */
import { createHash, type Hash } from "node:crypto";
import { parentPort } from "node:worker_threads";

/** A message to a digest thread. `hash` is a number that stands for one hash of one stream. */
export type DigestThreadOrder =
  | { readonly kind: "start"; readonly hash: number; readonly algorithm: string }
  | {
      readonly kind: "update";
      readonly hash: number;
      readonly memory: SharedArrayBuffer;
      readonly lengthBytes: number;
    }
  | { readonly kind: "finish"; readonly hash: number }
  | { readonly kind: "drop"; readonly hash: number };

/** A message from a digest thread: one for each `update` and `finish`, in their order. */
export type DigestThreadAnswer =
  { readonly kind: "updated" } | { readonly kind: "digest"; readonly hex: string };

if (parentPort === null) throw new Error("Cannot run digest-thread: it is not in a worker thread");
const port = parentPort;
const hashes = new Map<number, Hash>();

function carryOut(order: DigestThreadOrder): DigestThreadAnswer | undefined {
  switch (order.kind) {
    case "start":
      hashes.set(order.hash, createHash(order.algorithm));
      return undefined;
    case "update":
      // A hash that was dropped has no bytes any more; its blocks still go back in order.
      hashes.get(order.hash)?.update(new Uint8Array(order.memory, 0, order.lengthBytes));
      return { kind: "updated" };
    case "finish": {
      const hex = hashes.get(order.hash)?.digest("hex") ?? "";
      hashes.delete(order.hash);
      return { kind: "digest", hex };
    }
    case "drop":
      hashes.delete(order.hash);
      return undefined;
  }
}

// An order that cannot be read has no answer, and answers are matched by their order.
port.on("messageerror", (error) => {
  throw error;
});
port.on("message", (order: DigestThreadOrder) => {
  const answer = carryOut(order);
  if (answer !== undefined) port.postMessage(answer);
});
