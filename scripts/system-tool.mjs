import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { cacheDirectory } from "./cache-directory.mjs";
import { findOnPath, isProgram, outputOf, say, succeeds } from "./commands.mjs";
import { exclusively } from "./exclusively.mjs";
import { whileSaying } from "./progress.mjs";

// Finds a program with which the tests make their images, or gets it from the system's packages. In
// this order: its variable, PATH, our cache, apt-get as root or with sudo, the packages unpacked
// into our cache.

/**
 * @typedef {object} SystemTool
 * @property {string} program - its name
 * @property {string} [versionOption] - default: `--version`
 * @property {string} packageName - the Debian package that contains it
 * @property {string} variable - the environment variable that may name one
 */

// The PATH of an ordinary user lacks the programs of administrators.
const SYSTEM_DIRECTORIES = ["/usr/sbin", "/sbin"];

// The directories of programs in a package.
const PROGRAM_DIRECTORIES = ["usr/bin", "usr/sbin", "bin", "sbin"];

/**
 * The path of a program that runs, or undefined, with a line on stderr, if there is no way to get
 * one.
 *
 * @param {SystemTool} tool
 */
export async function ensureSystemTool(tool) {
  const found = findReadyTool(tool);
  if (found) return found;
  return exclusively(`system tool ${cachedProgram(tool)}`, `gets ${tool.program}`, async () => {
    const path =
      findReadyTool(tool) ?? (await installWithApt(tool)) ?? (await unpackIntoCache(tool));
    if (!path) {
      say(
        `Cannot get ${tool.program}: tests that need it fail or are skipped. Install it, or set ${tool.variable} to its path`,
      );
    }
    return path;
  });
}

/**
 * {@link ensureSystemTool} for several tools; the missing ones are installed at once.
 *
 * @param {readonly SystemTool[]} tools
 * @returns the paths of the tools by their variables, without the tools that cannot be got
 */
export async function ensureSystemTools(tools) {
  if (tools.some((tool) => !findReadyTool(tool))) {
    await exclusively("system tools", "installs packages", async () => {
      const missing = tools.filter((tool) => !findReadyTool(tool));
      if (missing.length > 1) await aptInstall(missing.map(({ packageName }) => packageName));
    });
  }
  /** @type {Record<string, string>} */
  const paths = {};
  for (const tool of tools) {
    const path = await ensureSystemTool(tool);
    if (path) paths[tool.variable] = path;
  }
  return paths;
}

/** @param {SystemTool} tool */
function findReadyTool(tool) {
  const { variable, program } = tool;
  const beside = SYSTEM_DIRECTORIES.map((directory) => join(directory, program));
  const paths = [process.env[variable], findOnPath(program), ...beside, cachedProgram(tool)];
  return paths.find((path) => path !== undefined && runs(path, tool));
}

/** @param {string} path @param {SystemTool} tool */
function runs(path, { versionOption = "--version" }) {
  return isProgram(path) && outputOf(path, [versionOption]) !== undefined;
}

/** @param {SystemTool} tool */
async function installWithApt(tool) {
  await aptInstall([tool.packageName]);
  return findReadyTool(tool);
}

/** @param {readonly string[]} packageNames */
async function aptInstall(packageNames) {
  if (!findOnPath("apt-get")) return;
  const asRoot = process.getuid?.() === 0 ? [] : ["sudo", "-n"];
  if (asRoot.length > 0 && outputOf("sudo", ["-n", "true"]) === undefined) return;
  const names = packageNames.join(", ");
  say(`Installing ${names} (apt-get) …`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const apt = (/** @type {string[]} */ ...args) => {
    const [command = "", ...rest] = [...asRoot, "apt-get", "-qq", ...args];
    return succeeds(command, rest, { env });
  };
  const install = () => apt("install", "-y", "--no-install-recommends", ...packageNames);
  await whileSaying(`installing ${names}`, async () => {
    // A new machine has no package lists; a machine that has them need not wait for an update.
    if (!(await install()) && (await apt("update"))) await install();
  });
}

/**
 * Unpacks the package and the libraries that the system lacks into our cache, for a user who may
 * not install packages.
 *
 * @param {SystemTool} tool
 */
async function unpackIntoCache(tool) {
  const { program, packageName } = tool;
  if (!findOnPath("apt-get") || !findOnPath("dpkg")) return undefined;
  say(`Unpacking ${packageName} into ${cacheDirectory()} …`);
  const root = join(cacheDirectory(), program);
  const unfinished = `${root}.new`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  const packages = packagesToUnpack(packageName);
  if (!(await succeeds("apt-get", ["-qq", "download", ...packages], { cwd: unfinished }))) {
    return undefined;
  }
  for (const file of readdirSync(unfinished).filter((name) => name.endsWith(".deb"))) {
    if (!(await succeeds("dpkg", ["-x", file, "."], { cwd: unfinished }))) return undefined;
    rmSync(join(unfinished, file));
  }
  writeWrapper(unfinished, program);
  rmSync(root, { recursive: true, force: true });
  renameSync(unfinished, root);
  return [cachedProgram(tool)].find((path) => runs(path, tool));
}

/** @param {string} packageName */
function packagesToUnpack(packageName) {
  const exclude = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"];
  const args = ["depends", "--recurse", ...exclude.map((kind) => `--no-${kind}`), packageName];
  const listed = outputOf("apt-cache", args) ?? "";
  // Unindented lines are the packages; those in <> are names that others provide.
  const names = listed.split("\n").filter((line) => /^[a-z0-9]/.test(line));
  const lacking = names.filter((name) => name !== packageName && !isInstalled(name));
  return [packageName, ...lacking];
}

/** @param {string} name */
function isInstalled(name) {
  const status = outputOf("dpkg-query", ["-W", "-f=${Status}", name], { stdio: "pipe" });
  return Boolean(status?.endsWith(" installed"));
}

/** @param {string} root @param {string} program */
function writeWrapper(root, program) {
  const libraries = ["usr/lib", "lib"]
    .filter((directory) => existsSync(join(root, directory)))
    .flatMap((directory) =>
      readdirSync(join(root, directory))
        .filter((name) => name.includes("-linux-"))
        .map((name) => `$root/${directory}/${name}`),
    );
  const path = PROGRAM_DIRECTORIES.map((directory) => join(directory, program)).find((each) =>
    isProgram(join(root, each)),
  );
  const wrapper = [
    "#!/bin/sh",
    'root=$(dirname "$(readlink -f "$0")")',
    `LD_LIBRARY_PATH="${libraries.join(":")}\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"`,
    "export LD_LIBRARY_PATH",
    `exec "$root/${path}" "$@"`,
  ];
  writeFileSync(join(root, program), `${wrapper.join("\n")}\n`);
  chmodSync(join(root, program), 0o755);
}

/** @param {SystemTool} tool */
function cachedProgram({ program }) {
  return join(cacheDirectory(), program, program);
}
