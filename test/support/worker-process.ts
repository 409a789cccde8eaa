import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readlinkSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import { waitForStandstill } from "./standstill.ts";

const BUILT_COMMAND_LINE = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** A file that a process has open. */
export interface OpenFile {
  /** Its path; one that has lost its name ends with ` (deleted)`. */
  readonly path: string;
  readonly sizeBytes: number;
}

/** `image-import worker` as a process of its own. */
export class WorkerProcess {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /**
   * Starts one, and waits until it polls. What still runs when the test has finished is killed.
   *
   * @param env - says where the service is
   */
  static async start(env: NodeJS.ProcessEnv): Promise<WorkerProcess> {
    const child = fork(BUILT_COMMAND_LINE, ["worker"], {
      env: { ...process.env, ...env },
      execArgv: [],
      stdio: "ignore",
    });
    const ended = once(child, "exit");
    onTestFinished(async () => {
      child.kill("SIGKILL");
      await ended;
    });
    const first = await Promise.race([once(child, "message"), ended]);
    if (child.exitCode !== null) throw new Error(`The worker ended: ${String(first[0])}`);
    return new WorkerProcess(child);
  }

  /** Makes it stand still (SIGSTOP), and waits until all of its threads do. */
  async stop(): Promise<void> {
    this.#child.kill("SIGSTOP");
    await waitForStandstill(this.#child.pid);
  }

  /** Lets it continue (SIGCONT). */
  continue(): void {
    this.#child.kill("SIGCONT");
  }

  /** Id of the process. */
  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Kills it at once (SIGKILL), and waits until it is gone. */
  async kill(): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await ended;
  }

  /** The files that it has open whose paths hold this text. */
  openFiles(text: string): OpenFile[] {
    const directory = `/proc/${String(this.#child.pid)}/fd`;
    return readdirSync(directory).flatMap((fd) => openFile(`${directory}/${fd}`, text) ?? []);
  }
}

function openFile(descriptor: string, text: string): OpenFile | undefined {
  try {
    const path = readlinkSync(descriptor);
    return path.includes(text) ? { path, sizeBytes: statSync(descriptor).size } : undefined;
  } catch {
    // Closed meanwhile.
    return undefined;
  }
}
