import { mkdirSync, readFileSync, renameSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { makeCacheDirectory } from "./cache-directory.mjs";
import { findOnPath, say, succeeds } from "./commands.mjs";
import { whileSaying } from "./progress.mjs";

// Programs that are built from source with Go, into our cache, where nobody brings one.

/** The release of a module that the go.mod of a build names, such as `v1.8.2`. */
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
 * Builds a program beside its place and renames it. Says so, and now and then that it goes on.
 *
 * @param build - `source`: the package; `directory`: that of the go.mod; `path`: where the program goes; `about`: what is
 * built and how long it takes, for people
 * @returns whether there is one now; false without Go, and when the build fails, which has said why
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
