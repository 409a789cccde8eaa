import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

/** The path of a program on `PATH`, or undefined. @param {string} name */
export function findOnPath(name) {
  const directories = (process.env["PATH"] ?? "").split(delimiter).filter(Boolean);
  return directories.map((directory) => join(directory, name)).find(isProgram);
}

/** True if `path` is a file that this user may run. @param {string} path */
export function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * Runs a program and returns what it wrote to stdout, or undefined if it failed or took longer than
 * 20 s.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {import("node:child_process").SpawnSyncOptions} options
 */
export function outputOf(command, args, options = {}) {
  const result = spawnSync(command, args, { timeout: 20_000, ...options, encoding: "utf8" });
  return result.status === 0 ? result.stdout : undefined;
}

/**
 * Runs a program to its end, with its output on stderr: stdout belongs to the caller.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {import("node:child_process").SpawnOptions} options
 * @returns {Promise<boolean>} true if it ended with exit code 0
 */
export function succeeds(command, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ["ignore", 2, 2], ...options });
    child.on("error", () => {
      resolve(false);
    });
    child.on("exit", (code) => {
      resolve(code === 0);
    });
  });
}

/**
 * Runs a program to its end and collects what it writes to stdout and stderr. Never rejects.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {Pick<import("node:child_process").SpawnOptions, "cwd" | "env" | "signal" | "timeout">}
 *   options - an aborted `signal` kills the program
 * @returns {Promise<{ isDone: boolean, output: string }>} `isDone`: it ended with exit code 0;
 *   `output`: its output, or the reason why it cannot be run
 */
export function collect(command, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      ...options,
      stdio: ["ignore", "pipe", "pipe"],
      killSignal: "SIGKILL",
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (/** @type {string} */ text) => (output += text));
    }
    // An aborted program emits an error before its end. The caller removes the program's files once
    // this resolves, so wait for the end.
    child.on("error", (error) => {
      if (child.pid === undefined) resolve({ isDone: false, output: error.message });
    });
    child.on("exit", (code) => {
      const end = () => {
        clearTimeout(timer);
        for (const stream of [child.stdout, child.stderr]) stream.destroy();
        resolve({ isDone: code === 0, output });
      };
      // A child process that it has left running may keep its output open.
      const timer = setTimeout(end, 1_000);
      child.once("close", end);
    });
  });
}

/** Writes one line to stderr, for the user who waits. @param {string} line */
export function say(line) {
  process.stderr.write(`${line}\n`);
}
