import { setTimeout as sleep } from "node:timers/promises";
import type { LocalProcess } from "../processes/process-table.ts";
import { waitUntilReady, type Program, type ProgramEnd } from "./program.ts";
import { StackError } from "./stack-error.ts";

// The first restart comes at once: most programs that were killed start again without trouble. One
// that keeps dying is left alone for longer and longer, so that it does not fill its log and the
// processor.
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 10_000;

// A program that lived this long did not die from how it was started.
const HEALTHY_AFTER_MS = 20_000;

// At its first start a program may trip over what a killed predecessor left, which passes within a
// second.
const FIRST_START_ATTEMPTS = 3;

/** How one program is kept running. */
export interface SupervisionOptions {
  /** Starts the program; called again each time it has ended. */
  readonly start: () => Program;
  /** Asks a started program whether it answers; a rejection means "not yet". */
  readonly isReady: (program: Program) => boolean | Promise<boolean>;
  /** Told at once when the process came or went: undefined while there is none. */
  readonly onProcess: (process: LocalProcess | undefined) => void;
  /** Takes one line for the person who watches the stack. */
  readonly log: (line: string) => void;
}

/** A program that is started again, with back-off, for as long as nobody stops it. */
export class SupervisedProgram {
  readonly #options: SupervisionOptions;
  readonly #stopping = new AbortController();
  #program: Program | undefined;
  #watch: Promise<void> | undefined;
  #replacing: Promise<void> | undefined;

  /** Starts nothing yet. */
  constructor(options: SupervisionOptions) {
    this.#options = options;
  }

  /**
   * Starts the program and waits until it answers. From then on it is watched.
   *
   * @throws StackError when it does not come up
   */
  async start(signal: AbortSignal): Promise<void> {
    const program = await this.#startUntilReady(signal);
    this.#watch = this.#restartUntilStopped(program);
  }

  /**
   * Starts the program a second time, and ends the first one as soon as the second answers.
   *
   * @throws StackError when the second does not come up; the first goes on
   */
  async replace(): Promise<void> {
    this.#replacing = this.#replace();
    await this.#replacing;
  }

  /** Ends the program, and starts it no more. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#replacing?.catch(() => undefined);
    await this.#program?.stop();
    await this.#watch;
    this.#options.onProcess(undefined);
  }

  async #startUntilReady(signal: AbortSignal): Promise<Program> {
    for (let attempt = 1; ; attempt += 1) {
      const program = this.#launch();
      try {
        await waitUntilReady(program, () => this.#options.isReady(program), { signal });
        return program;
      } catch (error) {
        await program.stop();
        signal.throwIfAborted();
        const isPermanent = error instanceof StackError && error.isPermanent;
        if (isPermanent || attempt === FIRST_START_ATTEMPTS) throw error;
        await sleep(500);
      }
    }
  }

  async #replace(): Promise<void> {
    const old = this.#program;
    const fresh = this.#options.start();
    try {
      await waitUntilReady(fresh, () => this.#options.isReady(fresh), {
        signal: this.#stopping.signal,
      });
    } catch (error) {
      await fresh.stop();
      throw error;
    }
    this.#program = fresh;
    this.#options.onProcess(fresh.process);
    await old?.stop();
  }

  async #restartUntilStopped(first: Program): Promise<void> {
    let program = first;
    let delayMs = FIRST_DELAY_MS;
    for (;;) {
      const startedAt = Date.now();
      const end = await program.ended;
      if (this.#isStopping()) return;
      if (this.#program !== undefined && this.#program !== program) {
        program = this.#program;
        continue;
      }

      if (Date.now() - startedAt > HEALTHY_AFTER_MS) delayMs = FIRST_DELAY_MS;
      this.#announce(program, end, delayMs);
      await sleep(delayMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      if (this.#isStopping()) return;
      if (this.#program !== program) continue;

      program = this.#launch();
      delayMs = Math.min(delayMs * 2, LONGEST_DELAY_MS);
    }
  }

  #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  #launch(): Program {
    const program = this.#options.start();
    this.#program = program;
    this.#options.onProcess(program.process);
    return program;
  }

  #announce({ name, logFile }: Program, end: ProgramEnd, delayMs: number): void {
    this.#options.onProcess(undefined);
    this.#options.log(
      `${name} ended (${end}), starting it again in ${delayMs / 1000} s; its log: ${logFile}`,
    );
  }
}
