import { copyFileSync, chmodSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { cacheDirectory } from "./cache-directory.mjs";
import { findOnPath, isProgram, outputOf, say, succeeds } from "./commands.mjs";
import { exclusively } from "./exclusively.mjs";
import { buildGoProgram, versionInGoMod } from "./go-program.mjs";

// Finds a Temporal CLI whose development server is new enough, or makes one. In this order: the
// variable TEMPORAL_CLI, PATH, our cache, the SDK's own download, a build from source.

// The first server on which everything we use was tried: Update-with-Start answers, activity
// priorities, and the Web UI's details of a running workflow.
const OLDEST_SERVER = [1, 30];

// A network that refuses is noticed at once; one that swallows packets must not hold up a start.
const DOWNLOAD_LIMIT_MS = 20_000;

const MODULE = "github.com/temporalio/cli";
const BUILD_DIRECTORY = fileURLToPath(new URL("temporal-cli", import.meta.url));

/**
 * The path of a Temporal CLI with a server of at least 1.30. Builds one when there is none, which
 * takes 5 to 10 minutes, once. Ends the process with the ways out when that is impossible.
 */
export async function ensureTemporalCli() {
  const found = findReadyCli();
  if (found) return found;
  return exclusively(`temporal-cli ${cachedCli()}`, async () => {
    const cli = usable(cachedCli(), "the cache") ?? (await downloadCli()) ?? (await buildCli());
    if (cli) return cli;
    say(waysOut());
    process.exit(1);
  });
}

function findReadyCli() {
  return (
    usable(process.env.TEMPORAL_CLI, "TEMPORAL_CLI") ??
    usable(findOnPath("temporal"), "PATH") ??
    usable(cachedCli(), "the cache")
  );
}

/** `path` when it is a program with a server that is new enough; says why it is not. */
function usable(path, origin) {
  if (!path) return undefined;
  if (!isProgram(path)) {
    if (origin === "TEMPORAL_CLI") say(`Skipping TEMPORAL_CLI=${path}: not a program`);
    return undefined;
  }
  const printed = outputOf(path, ["--version"]) ?? "";
  const version = /Server (\d+)\.(\d+)(?:\.\d+)?/.exec(printed);
  if (version && isRecent(Number(version[1]), Number(version[2]))) return path;
  const seen = version
    ? `its server is ${version[0].slice("Server ".length)}`
    : "it names no server";
  say(
    `Skipping the Temporal CLI ${path} (from ${origin}): ${seen}, wanted ${OLDEST_SERVER.join(".")} or newer`,
  );
  return undefined;
}

function isRecent(major, minor) {
  const [oldestMajor, oldestMinor] = OLDEST_SERVER;
  return major > oldestMajor || (major === oldestMajor && minor >= oldestMinor);
}

function cachedCli() {
  return join(cacheDirectory(), `temporal-cli-${cliVersion()}`, "temporal");
}

function cliVersion() {
  return versionInGoMod(BUILD_DIRECTORY, MODULE);
}

/**
 * Lets the SDK download its development server. The SDK offers that only as part of starting one,
 * so a child process starts and stops it, and may be killed when it takes too long.
 */
async function downloadCli() {
  say("Downloading the Temporal CLI …");
  const directory = join(cacheDirectory(), "temporal-cli-download");
  mkdirSync(directory, { recursive: true });
  const executable = { type: "cached-download", version: cliVersion(), downloadDir: directory };
  const program = `
    const { TestWorkflowEnvironment } = await import("@temporalio/testing");
    const server = { executable: ${JSON.stringify(executable)} };
    await (await TestWorkflowEnvironment.createLocal({ server })).teardown();`;
  await succeeds(process.execPath, ["--input-type=module", "--eval", program], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    stdio: "ignore",
    timeout: DOWNLOAD_LIMIT_MS,
    killSignal: "SIGKILL",
  });
  const cli = readdirSync(directory)
    .map((name) => join(directory, name))
    .find(isDownloadedCli);
  if (cli) keep(cli);
  rmSync(directory, { recursive: true, force: true });
  if (cli) return usable(cachedCli(), "the SDK's download");
  say("The Temporal CLI cannot be downloaded here");
  return undefined;
}

function isDownloadedCli(path) {
  return isProgram(path) && usable(path, "the SDK's download") !== undefined;
}

function keep(cli) {
  mkdirSync(join(cachedCli(), ".."), { recursive: true });
  copyFileSync(cli, `${cachedCli()}.new`);
  chmodSync(`${cachedCli()}.new`, 0o755);
  renameSync(`${cachedCli()}.new`, cachedCli());
}

async function buildCli() {
  const isBuilt = await buildGoProgram({
    source: `${MODULE}/cmd/temporal`,
    directory: BUILD_DIRECTORY,
    path: cachedCli(),
    about: `the Temporal CLI ${cliVersion()} from source: 5 to 10 minutes, once`,
  });
  return isBuilt ? usable(cachedCli(), "the build") : undefined;
}

function waysOut() {
  const go = findOnPath("go");
  return [
    `Cannot find a Temporal CLI with a server of ${OLDEST_SERVER.join(".")} or newer${
      go ? ", and building one failed (see above)" : ", and there is no Go to build one"
    }. One of these helps:`,
    "  - install it (https://docs.temporal.io/cli) so that `temporal` is on PATH",
    "  - set TEMPORAL_CLI to the path of one",
    go
      ? "  - let the build reach the Go module proxy (GOPROXY), or set GOTOOLCHAIN=auto if Go is too old"
      : "  - install Go 1.26 or newer (https://go.dev/dl); the CLI is then built from source, once",
  ].join("\n");
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.stdout.write(`${await ensureTemporalCli()}\n`);
}
