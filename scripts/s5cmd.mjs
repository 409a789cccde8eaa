import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { cacheDirectory } from "./cache-directory.mjs";
import { findOnPath, isProgram, outputOf, say, succeeds } from "./commands.mjs";
import { exclusively } from "./exclusively.mjs";
import { whileSaying } from "./progress.mjs";

// Finds s5cmd, the S3 client that is the reference of the benchmark, or builds it. In this order:
// the variable S5CMD, PATH, our cache, a build from source.

const MODULE = "github.com/peak/s5cmd/v2";
const VERSION = "v2.3.0";

// Go adds the rest, which follows from the module's own go.mod.
const GO_MOD = `module image-import/s5cmd\n\ngo 1.24\n\nrequire ${MODULE} ${VERSION}\n`;

/**
 * The path of an s5cmd that runs. Builds one if there is none, which takes a minute, once.
 * Undefined, with a line on stderr, if that is impossible.
 */
export async function ensureS5cmd() {
  const found = findReadyClient();
  if (found) return found;
  return exclusively(`s5cmd ${cachedClient()}`, "builds s5cmd", async () => {
    const client = [cachedClient()].find(runs) ?? (await buildClient());
    if (!client) {
      say("Cannot build s5cmd: there is no Go. Install s5cmd or Go, or set S5CMD to its path");
    }
    return client;
  });
}

function findReadyClient() {
  return [process.env["S5CMD"], findOnPath("s5cmd"), cachedClient()].find(runs);
}

/** @param {string | undefined} path @returns {path is string} */
function runs(path) {
  return path !== undefined && isProgram(path) && outputOf(path, ["version"]) !== undefined;
}

function cachedClient() {
  return join(cacheDirectory(), `s5cmd-${VERSION}`, "s5cmd");
}

async function buildClient() {
  if (!findOnPath("go")) return undefined;
  say(`Building s5cmd ${VERSION} from source: about a minute, once …`);
  const directory = join(cachedClient(), "..");
  const unfinished = `${directory}.new`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  // Not `go install MODULE@VERSION`: that asks for the list of versions too, which not every module
  // proxy has.
  writeFileSync(join(unfinished, "go.mod"), GO_MOD);
  const args = ["build", "-mod=mod", "-buildvcs=false", "-o", "s5cmd", MODULE];
  const build = () => succeeds("go", args, { cwd: unfinished });
  if (!(await whileSaying("building s5cmd", build))) return undefined;
  rmSync(directory, { recursive: true, force: true });
  renameSync(unfinished, directory);
  return [cachedClient()].find(runs);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.stdout.write(`${(await ensureS5cmd()) ?? ""}\n`);
}
