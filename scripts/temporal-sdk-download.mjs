import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { collect } from "./commands.mjs";
import { untilStandstill } from "./until-standstill.mjs";

const PACKAGE_ROOT = fileURLToPath(new URL("..", import.meta.url));

/**
 * Downloads the Temporal CLI with the SDK, which does so for its tests. The SDK downloads only to
 * start a server: a child process starts one with `--help`, so that it ends at once.
 *
 * @param {string} release - such as `1.9.1`
 * @param {string} directory - an empty directory, for all files
 * @param {AbortSignal} signal - aborts the download; its unfinished files stay in `directory`
 * @param {Promise<unknown>} installed - resolves once dependencies are installed, the SDK among
 *   them
 * @returns the path of the program in `directory`
 * @throws Error with the reason in one line, if the SDK cannot get it here
 */
export async function downloadBySdk(release, directory, signal, installed) {
  await Promise.race([installed, aborted(signal)]);
  const version = `v${release}`;
  // The SDK's name for it. The SDK renames the file to it when the file is complete.
  const path = join(directory, `temporal-${version}`);
  const executable = { type: "cached-download", version, downloadDir: directory };
  const program = `
    const { TestWorkflowEnvironment } = await import("@temporalio/testing");
    const server = { executable: ${JSON.stringify(executable)}, extraArgs: ["--help"] };
    await (await TestWorkflowEnvironment.createLocal({ server })).teardown();`;
  const { result, isStalled } = await untilStandstill(directory, signal, (either) =>
    untilThere(path, either, (enough) =>
      collect(process.execPath, ["--input-type=module", "--eval", program], {
        cwd: PACKAGE_ROOT,
        signal: enough,
      }),
    ),
  );
  if (existsSync(path)) return path;
  const error = result.output.split("\n").find((line) => /^\w*Error\b.*: /.test(line));
  throw new Error(
    isStalled ? "no byte arrived for 30 s" : (error ?? "there is no file afterwards"),
  );
}

/**
 * Ends `work` when there is a file at `path`: the SDK would wait for a server to respond.
 *
 * @template Result
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {(signal: AbortSignal) => Promise<Result>} work
 */
async function untilThere(path, signal, work) {
  const there = new AbortController();
  const timer = setInterval(() => {
    if (existsSync(path)) there.abort();
  }, 50);
  try {
    return await work(AbortSignal.any([signal, there.signal]));
  } finally {
    clearInterval(timer);
  }
}

/** @param {AbortSignal} signal */
async function aborted(signal) {
  if (!signal.aborted) await once(signal, "abort");
  signal.throwIfAborted();
}
