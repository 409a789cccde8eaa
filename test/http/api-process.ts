import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished, vi } from "vitest";
import { PATIENCE } from "../support/patience.ts";
import type { SharedStack } from "../support/shared-stack.ts";

const COMMAND_LINE = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** One API of a test's own beside that of a stack, with more settings; ended with the test. */
export class ApiProcess {
  readonly child: ChildProcess;
  #log = "";
  #url = "";

  private constructor(child: ChildProcess) {
    this.child = child;
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#log += chunk.toString();
    });
  }

  /**
   * Starts it on a free port.
   *
   * @param section - the section `api` of the configuration
   * @param more - more variables
   */
  static async start(
    stack: SharedStack,
    section: object = {},
    args: readonly string[] = [],
    more: NodeJS.ProcessEnv = {},
  ): Promise<ApiProcess> {
    const { config } = stack.file;
    const path = join(dirname(config), `api-${String(process.pid)}-${String(Date.now())}.yaml`);
    const settings = JSON.stringify({ port: 0, ...section });
    writeFileSync(path, `${readFileSync(config, "utf8")}\napi: ${settings}\n`);
    const env = {
      ...process.env,
      ...(await stack.environment()),
      ...more,
      IMAGE_IMPORT_CONFIG: path,
    };
    const child = spawn(process.execPath, [COMMAND_LINE, "api", ...args], {
      env,
      stdio: ["ignore", "inherit", "pipe"],
    });
    const api = new ApiProcess(child);
    onTestFinished(async () => {
      await api.stop("SIGKILL");
    });
    await vi.waitUntil(() => {
      if (child.exitCode !== null) throw new Error(`The API ended: ${api.log}`);
      const [, url] = /"api_url":"([^"]+)"/.exec(api.log) ?? [];
      api.#url = url ?? "";
      return url !== undefined;
    }, PATIENCE);
    return api;
  }

  /** Its address, without a path. */
  get url(): string {
    return this.#url;
  }

  /** Everything that it has logged. */
  get log(): string {
    return this.#log;
  }

  /** Ends it, and waits for its end. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const ended = once(this.child, "exit");
      this.child.kill(signal);
      await ended;
    }
    return this.child.exitCode;
  }
}
