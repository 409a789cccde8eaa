import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { cacheDirectory } from "./cache-directory.mjs";
import { findOnPath, isProgram, outputOf, say } from "./commands.mjs";
import { exclusively } from "./exclusively.mjs";
import { buildGoProgram, versionInGoMod } from "./go-program.mjs";

// Finds versitygw, a real S3 server, or builds one. In this order: the variable VERSITYGW, PATH,
// our cache, a build from source.

const MODULE = "github.com/versity/versitygw";
const BUILD_DIRECTORY = fileURLToPath(new URL("versitygw", import.meta.url));

/**
 * The path of a versitygw that runs. Builds one if there is none, which takes some minutes, once.
 * Undefined, with the ways out on stderr, if that is impossible.
 */
export async function ensureVersitygw() {
  const found = findReadyServer();
  if (found) return found;
  return exclusively(`versitygw ${cachedServer()}`, "builds versitygw", async () => {
    const server = usable(cachedServer()) ?? (await buildServer());
    if (!server) say(waysOut());
    return server;
  });
}

function findReadyServer() {
  const { VERSITYGW: named } = process.env;
  if (named && !usable(named)) say(`Skipping VERSITYGW=${named}: it does not run`);
  return usable(named) ?? usable(findOnPath("versitygw")) ?? usable(cachedServer());
}

/** Returns `path` if it is a versitygw that runs. @param {string | undefined} path */
function usable(path) {
  if (path === undefined || !isProgram(path)) return undefined;
  return outputOf(path, ["--version"]) === undefined ? undefined : path;
}

function cachedServer() {
  return join(
    cacheDirectory(),
    `versitygw-${versionInGoMod(BUILD_DIRECTORY, MODULE)}`,
    "versitygw",
  );
}

async function buildServer() {
  const isBuilt = await buildGoProgram({
    source: `${MODULE}/cmd/versitygw`,
    directory: BUILD_DIRECTORY,
    path: cachedServer(),
    about: `versitygw ${versionInGoMod(BUILD_DIRECTORY, MODULE)}, the S3 server of the tests, from source: some minutes, once`,
  });
  return isBuilt ? usable(cachedServer()) : undefined;
}

function waysOut() {
  const go = findOnPath("go");
  return [
    `Cannot find versitygw, the S3 server of the tests, ${
      go ? "and its build failed (see above)" : "and there is no Go to build it"
    }: tests that need it fail. One of these helps:`,
    "  - install it (https://github.com/versity/versitygw) so that `versitygw` is on PATH",
    "  - set VERSITYGW to the path of one",
    go
      ? "  - let the build reach the Go module proxy (GOPROXY), or set GOTOOLCHAIN=auto if Go is too old"
      : "  - install Go 1.25 or newer (https://go.dev/dl); versitygw is then built from source, once",
  ].join("\n");
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.stdout.write(`${(await ensureVersitygw()) ?? ""}\n`);
}
