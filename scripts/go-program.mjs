import { mkdirSync, readFileSync, renameSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { makeCacheDirectory } from "./cache-directory.mjs";
import { findOnPath, say, succeeds } from "./commands.mjs";
import { whileSaying } from "./progress.mjs";

// Builds programs from source with Go, into our cache, when this machine has none.

/**
 * The release of a module that the go.mod of a build names, such as `v1.8.2`.
 *
 * @param {string} buildDirectory
 * @param {string} module
 */
export function versionInGoMod(buildDirectory, module) {
  const path = join(buildDirectory, "go.mod");
  const lines = readFileSync(path, "utf8").split("\n");
  const words = lines.map((line) =>
    line
      .trim()
      .replace(/^require\s+/, "")
      .split(" "),
  );
  const version = words.find(([name, version]) => name === module && version?.startsWith("v"))?.[1];
  if (version) return version;
  throw new Error(`No version of ${module} in ${path}`);
}

/**
 * Builds a program beside its place and renames it. Reports the start, and now and then that it
 * continues.
 *
 * @param {object} build
 * @param {string} build.source - the package
 * @param {string} build.directory - the directory of the go.mod
 * @param {string} build.path - its destination
 * @param {string} build.about - the name of the program and the time that the build takes, for the
 *   user
 * @returns true if the program was built; false without Go, and if the build failed, after it has
 *   reported why
 */
export async function buildGoProgram({ source, directory, path, about }) {
  if (!findOnPath("go")) return false;
  say(`Building ${about} …`);
  makeCacheDirectory();
  mkdirSync(dirname(path), { recursive: true });
  // No stamp of the clone's commit: git refuses to read a clone that another user owns.
  const args = ["build", "-buildvcs=false", "-o", `${path}.new`, source];
  const build = () => succeeds("go", args, { cwd: directory });
  if (!(await whileSaying(`building ${basename(path)}`, build))) return false;
  renameSync(`${path}.new`, path);
  return true;
}
