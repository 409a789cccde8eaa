import { Worker } from "node:worker_threads";
import type { DigestThreadAnswer, DigestThreadData, DigestThreadOrder } from "./digest-thread.ts";

// Threads run compiled code only. The path leads there from src/bytes (tests run sources) and from
// dist/bytes alike.
const THREAD_PROGRAM = new URL("../../dist/bytes/digest-thread.js", import.meta.url);

/** A run of bytes in the shared memory. */
export interface MemoryRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * One hash, computed in a thread of its own from shared memory. The thread keeps the process alive
 * only while it has work.
 */
export class ThreadHasher {
  readonly #worker: Worker;
  readonly #algorithm: string;
  readonly #onDeath: (reason: Error) => void;
  readonly #onAnswer: ((answer: DigestThreadAnswer) => void)[] = [];
  #stopping = false;

  private constructor(data: DigestThreadData, onDeath: (reason: Error) => void) {
    this.#algorithm = data.algorithm;
    this.#onDeath = onDeath;
    // No execArgv: a loader or an inspector of the process is useless for fifteen lines of hashing.
    this.#worker = new Worker(THREAD_PROGRAM, {
      name: `digest ${data.algorithm}`,
      workerData: data,
      execArgv: [],
    });
    this.#worker.on("message", (answer: DigestThreadAnswer) => {
      this.#settle(answer);
    });
    this.#worker.on("error", (cause) => {
      this.#die("failed", cause);
    });
    this.#worker.on("exit", (code) => {
      this.#die(`ended with code ${code}`);
    });
    // After the listeners: adding one for "message" makes Node keep the process alive again.
    this.#worker.unref();
  }

  /**
   * Starts the thread.
   *
   * @param data - the hash and the memory it reads
   * @param onDeath - called once if the thread ends and {@link stop} was not called
   */
  static start(data: DigestThreadData, onDeath: (reason: Error) => void): ThreadHasher {
    return new ThreadHasher(data, onDeath);
  }

  /** Adds a range to the hash; `onHashed` is called when its bytes are no longer needed. */
  hash(range: MemoryRange, onHashed: () => void): void {
    this.#order({ kind: "hash", ...range }, onHashed);
  }

  /**
   * Ends the hash; no range can be added afterwards. The promise never settles when the thread dies
   * or is stopped.
   */
  finish(): Promise<string> {
    return new Promise((resolve) => {
      this.#order({ kind: "finish" }, (answer) => {
        if (answer.kind === "digest") resolve(answer.hex);
      });
    });
  }

  /** Ends the thread at once. Orders that it has not answered yet are never answered. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#onAnswer.length = 0;
    await this.#worker.terminate();
  }

  #order(order: DigestThreadOrder, onAnswer: (answer: DigestThreadAnswer) => void): void {
    this.#onAnswer.push(onAnswer);
    this.#worker.ref();
    this.#worker.postMessage(order);
  }

  #settle(answer: DigestThreadAnswer): void {
    const onAnswer = this.#onAnswer.shift();
    if (this.#onAnswer.length === 0) this.#worker.unref();
    onAnswer?.(answer);
  }

  #die(how: string, cause?: unknown): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#onDeath(
      new Error(`Cannot compute digests: the ${this.#algorithm} thread ${how}`, { cause }),
    );
  }
}
