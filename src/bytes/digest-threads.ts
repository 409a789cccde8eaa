import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { DigestThreadAnswer, DigestThreadOrder } from "./digest-thread.ts";

// Threads run compiled code only. The path leads there from src/bytes (tests run sources) and from
// dist/bytes alike.
const THREAD_PROGRAM = new URL("../../dist/bytes/digest-thread.js", import.meta.url);

/** One hash of one stream, computed in a thread. */
export interface ThreadHash {
  /** Adds the start of a block to the hash; `onHashed` is called when it is no longer needed. */
  update(memory: SharedArrayBuffer, lengthBytes: number, onHashed: () => void): void;
  /**
   * Ends the hash; nothing can be added afterwards. The promise never settles when the thread dies;
   * `onDeath` is called then.
   *
   * @returns the digest in hexadecimal digits
   */
  finish(): Promise<string>;
  /**
   * Ends the hash without a digest; `onDeath` is not called any more. Blocks that were added are
   * still reported.
   */
  drop(): void;
}

/**
 * The threads in which all streams of a process are hashed: as many as there are processors, and
 * two at least, each started when the ones before it have work. They stay, and keep the process
 * alive only while they have work.
 */
export class DigestThreads {
  readonly #mostThreads: number;
  #threads: DigestThread[] = [];

  /** @param mostThreads - default: one per processor, and two at least */
  constructor(mostThreads = Math.max(2, availableParallelism())) {
    this.#mostThreads = mostThreads;
  }

  /**
   * Starts a hash in the thread that has the fewest.
   *
   * @param algorithm - as node:crypto names it
   * @param onDeath - called once if the thread ends before the hash does
   */
  start(algorithm: string, onDeath: (reason: Error) => void): ThreadHash {
    return this.#leastBusy().start(algorithm, onDeath);
  }

  #leastBusy(): DigestThread {
    this.#threads = this.#threads.filter(({ isDead }) => !isDead);
    const [least] = this.#threads.toSorted((one, other) => one.hashCount - other.hashCount);
    if (least !== undefined) {
      if (least.hashCount === 0 || this.#threads.length >= this.#mostThreads) return least;
    }
    const thread = new DigestThread(this.#threads.length + 1);
    this.#threads.push(thread);
    return thread;
  }
}

/** One thread, and the hashes in it. */
class DigestThread {
  readonly #worker: Worker;
  readonly #onAnswer: ((answer: DigestThreadAnswer) => void)[] = [];
  readonly #onDeath = new Map<number, (reason: Error) => void>();
  #hashes = 0;
  #death: Error | undefined;

  constructor(number: number) {
    // No execArgv: a loader or an inspector of the process is useless for forty lines of hashing.
    this.#worker = new Worker(THREAD_PROGRAM, {
      name: `digests ${number}`,
      execArgv: [],
      // The only garbage of the thread is messages. By default 48 MiB of it would accumulate.
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 32 },
    });
    this.#worker.on("message", (answer: DigestThreadAnswer) => {
      this.#settle(answer);
    });
    this.#worker.on("error", (cause) => {
      this.#die("failed", cause);
    });
    this.#worker.on("messageerror", (cause) => {
      this.#die("sent no answer", cause);
      void this.#worker.terminate();
    });
    this.#worker.on("exit", (code) => {
      this.#die(`ended with code ${code}`);
    });
    // After the listeners: adding one for "message" makes Node keep the process alive again.
    this.#worker.unref();
  }

  get isDead(): boolean {
    return this.#death !== undefined;
  }

  /** Hashes that are neither finished nor dropped. */
  get hashCount(): number {
    return this.#onDeath.size;
  }

  start(algorithm: string, onDeath: (reason: Error) => void): ThreadHash {
    const hash = (this.#hashes += 1);
    this.#onDeath.set(hash, onDeath);
    this.#order({ kind: "start", hash, algorithm });
    return {
      update: (memory, lengthBytes, onHashed) => {
        this.#order({ kind: "update", hash, memory, lengthBytes }, onHashed);
      },
      finish: () =>
        new Promise((resolve) => {
          this.#order({ kind: "finish", hash }, (answer) => {
            this.#onDeath.delete(hash);
            if (answer.kind === "digest") resolve(answer.hex);
          });
        }),
      drop: () => {
        if (this.#onDeath.delete(hash)) this.#order({ kind: "drop", hash });
      },
    };
  }

  #order(order: DigestThreadOrder, onAnswer?: (answer: DigestThreadAnswer) => void): void {
    if (onAnswer !== undefined) {
      this.#onAnswer.push(onAnswer);
      this.#worker.ref();
    }
    this.#worker.postMessage(order);
  }

  #settle(answer: DigestThreadAnswer): void {
    const onAnswer = this.#onAnswer.shift();
    if (this.#onAnswer.length === 0) this.#worker.unref();
    onAnswer?.(answer);
  }

  #die(how: string, cause?: unknown): void {
    if (this.#death !== undefined) return;
    this.#death = new Error(`Cannot compute digests: a thread ${how}`, { cause });
    for (const onDeath of this.#onDeath.values()) onDeath(this.#death);
    this.#onDeath.clear();
    // A dead thread reads no blocks: their holders may release them.
    for (const onAnswer of this.#onAnswer.splice(0)) onAnswer({ kind: "updated" });
  }
}

/** The threads of this process. */
export const processDigestThreads = new DigestThreads();
