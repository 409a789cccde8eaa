import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { BUILD_STAMP, sourceFingerprint } from "./build-stamp.mjs";
import { findOnPath, say, succeeds } from "./commands.mjs";
import { exclusively } from "./exclusively.mjs";
import { whileSaying } from "./progress.mjs";

/** The root directory of the package. */
export const PACKAGE_ROOT = fileURLToPath(new URL("..", import.meta.url));

const LOCKFILE = join(PACKAGE_ROOT, "package-lock.json");
const HIDDEN_LOCKFILE = join(PACKAGE_ROOT, "node_modules/.package-lock.json");
const INSTALL_STAMP = join(PACKAGE_ROOT, "node_modules/.image-import-installed");

/**
 * Makes the programs of a clone runnable: installs dependencies, builds sources. Takes a few
 * milliseconds if there is nothing to do, and reports its work on stderr: stdout belongs to the
 * program that runs next. A package without sources comes built and is left alone.
 */
export async function prepare() {
  if (!existsSync(join(PACKAGE_ROOT, "src")) || isPrepared()) return;
  await install();
  await build();
}

/**
 * Installs the dependencies, the first half of {@link prepare}: work that needs only these need not
 * wait for the build.
 */
export async function install() {
  if (!existsSync(join(PACKAGE_ROOT, "src")) || isInstalled()) return;
  await oneAtATime(async () => {
    // The process that held the lock before may have done the work.
    if (!isInstalled()) await runNpmCi();
  });
}

async function build() {
  await oneAtATime(async () => {
    if (!isBuilt()) await runBuild();
  });
}

/** @param {() => Promise<void>} action */
async function oneAtATime(action) {
  await exclusively(`prepare ${PACKAGE_ROOT}`, "installs or builds this clone", action);
}

function isPrepared() {
  return isInstalled() && isBuilt();
}

function isInstalled() {
  if (readIfThere(INSTALL_STAMP) === lockfileDigest()) return true;
  if (!existsSync(HIDDEN_LOCKFILE)) return false;
  // The user ran npm by hand: npm has recorded what it installed.
  return isNewer(HIDDEN_LOCKFILE, LOCKFILE) || holdsWhatTheLockfileAsks();
}

function holdsWhatTheLockfileAsks() {
  const wanted = packagesIn(LOCKFILE);
  const installed = packagesIn(HIDDEN_LOCKFILE);
  return Object.entries(wanted).every(([path, { version, optional, devOptional, peer }]) => {
    const found = installed[path];
    if (found === undefined) return path === "" || Boolean(optional || devOptional || peer);
    return found.version === version;
  });
}

/**
 * @typedef {{ version?: string, optional?: boolean, devOptional?: boolean, peer?: boolean }}
 *   LockedPackage
 *
 * @param {string} lockfile
 */
function packagesIn(lockfile) {
  /** @type {{ packages: Record<string, LockedPackage> }} */
  const { packages } = JSON.parse(readFileSync(lockfile, "utf8"));
  return packages;
}

async function runNpmCi() {
  say("Installing dependencies (npm ci) …");
  rmSync(INSTALL_STAMP, { force: true });
  // The compiler is a development dependency: install these whatever NODE_ENV is.
  const args = ["ci", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"];
  await whileSaying("installing dependencies", () => run("npm", args));
  writeFileSync(INSTALL_STAMP, lockfileDigest());
}

function isBuilt() {
  return readIfThere(join(PACKAGE_ROOT, BUILD_STAMP)) === sourceFingerprint(PACKAGE_ROOT);
}

async function runBuild() {
  say("Building …");
  const script = join(PACKAGE_ROOT, "scripts/build.mjs");
  await whileSaying("building", () => run(process.execPath, [script]));
}

/** @param {string} command @param {readonly string[]} args */
async function run(command, args) {
  if (await succeeds(command, args, { cwd: PACKAGE_ROOT })) return;
  const isThere = command === process.execPath || findOnPath(command) !== undefined;
  const why = isThere ? "it failed, see above" : `there is no ${command} on PATH`;
  say(`Cannot run ${[command, ...args].join(" ")}: ${why}`);
  process.exit(1);
}

function lockfileDigest() {
  return createHash("sha256").update(readFileSync(LOCKFILE)).digest("hex");
}

/** @param {string} path @param {string} other */
function isNewer(path, other) {
  return statSync(path).mtimeMs >= statSync(other).mtimeMs;
}

/** @param {string} path */
function readIfThere(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await prepare();
