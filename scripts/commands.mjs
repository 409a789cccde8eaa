import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

/** The path of a program on `PATH`, or undefined. */
export function findOnPath(name) {
  const directories = (process.env.PATH ?? "").split(delimiter).filter(Boolean);
  return directories.map((directory) => join(directory, name)).find(isProgram);
}

/** Says whether `path` is a file that this user may run. */
export function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** What a program wrote to stdout, or undefined when it failed or took longer than 20 s. */
export function outputOf(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: "utf8", timeout: 20_000, ...options });
  return result.status === 0 ? result.stdout : undefined;
}

/**
 * Runs a program to its end, its output on stderr: stdout belongs to whoever asked.
 *
 * @returns whether it ended with exit code 0
 */
export function succeeds(command, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ["ignore", 2, 2], ...options });
    child.on("error", () => resolve(false));
    child.on("exit", (code) => resolve(code === 0));
  });
}

/**
 * Runs a program to its end and collects what it writes on stdout and stderr. Never rejects.
 *
 * @param options - as `spawn` takes them; a `signal` that aborts kills the program
 * @returns whether it ended with exit code 0, and its output; of a program that cannot be run, why
 */
export function collect(command, args, options = {}) {
  return new Promise((resolve) => {
    const stdio = ["ignore", "pipe", "pipe"];
    const child = spawn(command, args, { stdio, killSignal: "SIGKILL", ...options });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text) => (output += text));
    }
    // An aborted program sends an error before its end; what it wrote to must not be removed until it is gone.
    child.on("error", (error) => {
      if (child.pid === undefined) resolve({ isDone: false, output: error.message });
    });
    child.on("exit", (code) => {
      const end = () => {
        clearTimeout(timer);
        for (const stream of [child.stdout, child.stderr]) stream?.destroy();
        resolve({ isDone: code === 0, output });
      };
      // A program of its own that it has left running may hold on to its output.
      const timer = setTimeout(end, 1_000);
      child.once("close", end);
    });
  });
}

/** One line to the person who waits. */
export function say(line) {
  process.stderr.write(`${line}\n`);
}
