import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { collect } from "./commands.mjs";
import { untilStandstill } from "./until-standstill.mjs";

const PACKAGE_ROOT = fileURLToPath(new URL("..", import.meta.url));

/**
 * Lets the SDK download the Temporal CLI, as it does for its tests. The SDK offers that only as part of starting a
 * server, so that a child process does it; the server is asked for its help, and ends at once.
 *
 * @param release - such as `1.9.1`
 * @param directory - an empty directory for what is written
 * @param signal - aborts the download; what it left is in `directory`
 * @param installed - resolves once dependencies are installed, the SDK among them
 * @returns the path of the program in `directory`
 * @throws Error with the reason in one line, when there is no way to get it here
 */
export async function downloadBySdk(release, directory, signal, installed) {
  await Promise.race([installed, aborted(signal)]);
  const version = `v${release}`;
  // The SDK's name for it; it is renamed to it when it is whole.
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
  throw new Error(isStalled ? "no byte came for 30 s" : (error ?? "it brought none"));
}

/** Ends `work` when there is a file at `path`: the SDK would wait for a server to answer. */
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

function aborted(signal) {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
