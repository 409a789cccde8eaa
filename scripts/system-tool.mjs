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

// Finds a program that the tests make their images with, or gets it from the system's packages. In this order: its
// variable, PATH, our cache, apt-get as root or with sudo, the packages unpacked into our cache.

// Programs that administrators use are not on everybody's PATH.
const SYSTEM_DIRECTORIES = ["/usr/sbin", "/sbin"];

// Where a package has them.
const PROGRAM_DIRECTORIES = ["usr/bin", "usr/sbin", "bin", "sbin"];

/**
 * The path of a program that runs, or undefined when there is no way to get one; says so then.
 *
 * @param tool - `program`: its name, which `--version` makes end well; `packageName`: the Debian package that holds
 * it; `variable`: the environment variable that may name one
 */
export async function ensureSystemTool(tool) {
  const found = findReadyTool(tool);
  if (found) return found;
  return exclusively(`system tool ${cachedProgram(tool)}`, `gets ${tool.program}`, async () => {
    const path =
      findReadyTool(tool) ?? (await installWithApt(tool)) ?? (await unpackIntoCache(tool));
    if (!path) {
      say(
        `There is no ${tool.program} and no way to get one: tests that need it fail or are skipped`,
      );
    }
    return path;
  });
}

/**
 * {@link ensureSystemTool} for several; what is missing is installed at once.
 *
 * @returns their paths by their variables, without those that there is no way to get
 */
export async function ensureSystemTools(tools) {
  if (tools.some((tool) => !findReadyTool(tool))) {
    await exclusively("system tools", "installs packages", async () => {
      const missing = tools.filter((tool) => !findReadyTool(tool));
      if (missing.length > 1) await aptInstall(missing.map(({ packageName }) => packageName));
    });
  }
  const paths = {};
  for (const tool of tools) {
    const path = await ensureSystemTool(tool);
    if (path) paths[tool.variable] = path;
  }
  return paths;
}

function findReadyTool(tool) {
  const { variable, program } = tool;
  const beside = SYSTEM_DIRECTORIES.map((directory) => join(directory, program));
  return [process.env[variable], findOnPath(program), ...beside, cachedProgram(tool)].find(runs);
}

function runs(path) {
  return Boolean(path) && isProgram(path) && outputOf(path, ["--version"]) !== undefined;
}

async function installWithApt(tool) {
  await aptInstall([tool.packageName]);
  return findReadyTool(tool);
}

async function aptInstall(packageNames) {
  if (!findOnPath("apt-get")) return;
  const asRoot = process.getuid() === 0 ? [] : ["sudo", "-n"];
  if (asRoot.length > 0 && outputOf("sudo", ["-n", "true"]) === undefined) return;
  const names = packageNames.join(", ");
  say(`Installing ${names} (apt-get) …`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const apt = (...args) => {
    const [command, ...rest] = [...asRoot, "apt-get", "-qq", ...args];
    return succeeds(command, rest, { env });
  };
  const install = () => apt("install", "-y", "--no-install-recommends", ...packageNames);
  await whileSaying(`installing ${names}`, async () => {
    // A fresh machine has no package lists; one that has them need not wait for them.
    if (!(await install())) (await apt("update")) && (await install());
  });
}

/** Without the right to install: the package and the libraries that the system lacks, side by side in our cache. */
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
  return [cachedProgram(tool)].find(runs);
}

function packagesToUnpack(packageName) {
  const exclude = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"];
  const args = ["depends", "--recurse", ...exclude.map((kind) => `--no-${kind}`), packageName];
  const listed = outputOf("apt-cache", args) ?? "";
  // Unindented lines are the packages; those in <> are names that others provide.
  const names = listed.split("\n").filter((line) => /^[a-z0-9]/.test(line));
  const lacking = names.filter((name) => name !== packageName && !isInstalled(name));
  return [packageName, ...lacking];
}

function isInstalled(name) {
  const status = outputOf("dpkg-query", ["-W", "-f=${Status}", name], { stdio: "pipe" });
  return Boolean(status?.endsWith(" installed"));
}

function writeWrapper(root, program) {
  const libraries = ["usr/lib", "lib"]
    .filter((directory) => existsSync(join(root, directory)))
    .flatMap((directory) => readdirSync(join(root, directory)).map((name) => [directory, name]))
    .filter(([, name]) => name.includes("-linux-"))
    .map(([directory, name]) => `$root/${directory}/${name}`);
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

function cachedProgram({ program }) {
  return join(cacheDirectory(), program, program);
}
