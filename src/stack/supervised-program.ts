import { setTimeout as sleep } from "node:timers/promises";
import type { LocalProcess } from "../processes/process-table.ts";
import { waitUntilReady, type Program, type ProgramEnd } from "./program.ts";
import { StackError } from "./stack-error.ts";

// The first restart comes at once: most programs that were killed start again without trouble. The
// delay grows for a program that keeps ending, so that it does not fill its log and the processor.
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 10_000;

// A program that ran this long did not end because of its start.
const HEALTHY_AFTER_MS = 20_000;

// At its first start a program may fail because of the leftovers of a killed predecessor. They
// vanish within a second.
const FIRST_START_ATTEMPTS = 3;

/** Settings of a {@link SupervisedProgram}. */
export interface SupervisionOptions {
  /** Starts the program; called again each time it has ended. */
  readonly start: () => Program;
  /** True if a started program is ready; a rejection means "not yet". */
  readonly isReady: (program: Program) => boolean | Promise<boolean>;
  /** Called when the process starts, and with undefined when it ends. */
  readonly onProcess: (process: LocalProcess | undefined) => void;
  /** Prints one line for the user. */
  readonly log: (line: string) => void;
}

/** A program that is restarted, with back-off, until {@link SupervisedProgram.stop}. */
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
   * Starts the program and waits until it is ready. From then on it is restarted when it ends.
   *
   * @throws StackError when it does not become ready
   */
  async start(signal: AbortSignal): Promise<void> {
    const program = await this.#startUntilReady(signal);
    this.#watch = this.#restartUntilStopped(program);
  }

  /**
   * Starts the program a second time, and ends the first one as soon as the second is ready. If the
   * first one has ended meanwhile, and was restarted, the restarted one is ended.
   *
   * @throws StackError when the second does not become ready; the first keeps running
   */
  async replace(): Promise<void> {
    this.#replacing = this.#replace();
    await this.#replacing;
  }

  /**
   * Ends the program, so that it is started again. For a program that has a fixed port, which a
   * second process cannot take meanwhile.
   */
  async restart(): Promise<void> {
    await this.#program?.stop();
  }

  /** Ends the program, and does not restart it. */
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
    const fresh = this.#options.start();
    try {
      await waitUntilReady(fresh, () => this.#options.isReady(fresh), {
        signal: this.#stopping.signal,
      });
    } catch (error) {
      await fresh.stop();
      throw error;
    }
    // Not the program that ran when the wait began: it may have ended, and been restarted.
    const old = this.#program;
    this.#program = fresh;
    this.#options.onProcess(fresh.process);
    await old?.stop();
  }

  async #restartUntilStopped(first: Program): Promise<void> {
    let program = first;
    let delayMs = FIRST_DELAY_MS;
    let failure: ProgramEnd | undefined;
    for (;;) {
      const startedAt = performance.now();
      const end = failure ?? (await program.ended);
      failure = undefined;
      if (this.#isStopping()) return;
      if (this.#program !== undefined && this.#program !== program) {
        program = this.#program;
        continue;
      }

      if (performance.now() - startedAt > HEALTHY_AFTER_MS) delayMs = FIRST_DELAY_MS;
      this.#announce(program, end, delayMs);
      await sleep(delayMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      if (this.#isStopping()) return;
      if (this.#program !== program) continue;

      try {
        program = this.#launch();
      } catch (error) {
        // For example, its log cannot be opened. The next attempt may succeed.
        failure = error instanceof Error ? error.message : String(error);
      }
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
      `${name} ended (${end}). Restarting it in ${delayMs / 1000} s. Its log: ${logFile}`,
    );
  }
}
