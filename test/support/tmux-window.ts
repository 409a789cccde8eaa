import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { onTestFinished, vi } from "vitest";
import { PATIENCE } from "./patience.ts";
import { makeTemporaryDirectory } from "./temporary-directory.ts";

const TMUX = process.env["TMUX_PROGRAM"] ?? "tmux";
const ROWS = 24;
// The window closes when its program ends.
const AND_STAY = '"$0" "$@"; echo "ended with $?"; exec sleep 600';

/**
 * A window of tmux in which one command runs, and after it a line with its exit code is shown. It
 * ends with the test.
 */
export class TmuxWindow {
  readonly #socket = join(makeTemporaryDirectory(), "tmux");

  /** @param env - of the command */
  constructor(command: readonly string[], columns: number, env: NodeJS.ProcessEnv) {
    const start = ["new-session", "-d", "-x", String(columns), "-y", String(ROWS)];
    this.#tmux(["-f", "/dev/null", ...start, "sh", "-c", AND_STAY, ...command], env);
    onTestFinished(() => {
      this.#tmux(["kill-server"]);
    });
  }

  /**
   * The lines on the screen, without blanks at their ends. One that is longer than the screen is
   * wide is one line.
   */
  get screen(): string[] {
    return this.#capture();
  }

  /** The same, after the lines that have left the screen at its top. */
  get everything(): string[] {
    return this.#capture("-S", "-");
  }

  /** Makes the window narrower or wider. */
  resize(columns: number): void {
    this.#tmux(["resize-window", "-x", String(columns), "-y", String(ROWS)]);
  }

  /** Waits until the screen has a line like this, and not longer than so many columns. */
  async shows(line: RegExp, columns: number): Promise<void> {
    await vi.waitFor(() => {
      const { screen } = this;
      if (screen.some((each) => each.length <= columns && line.test(each))) return;
      throw new Error(`The window does not show ${String(line)}:\n${screen.join("\n")}`);
    }, PATIENCE);
  }

  #capture(...range: readonly string[]): string[] {
    const text = this.#tmux(["capture-pane", "-p", "-J", ...range]).trimEnd();
    return text.split("\n").map((line) => line.trimEnd());
  }

  #tmux(args: readonly string[], env?: NodeJS.ProcessEnv): string {
    return execFileSync(TMUX, ["-S", this.#socket, ...args], { encoding: "utf8", env });
  }
}
