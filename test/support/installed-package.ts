import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

interface Lockfile {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
}

/**
 * Makes a project that has installed this package from its tarball, as `npm install` lays it out:
 * the package's files, and its dependencies without those of development. They are links to the
 * dependencies of this clone, so that no registry is needed.
 *
 * @returns the directory of the project
 */
export function installPackage(): string {
  const project = mkdtempSync(join(tmpdir(), "image-import-consumer-"));
  const args = ["pack", "--silent", "--pack-destination", project];
  const tarball = execFileSync("npm", args, { cwd: ROOT, encoding: "utf8" }).trim();
  execFileSync("tar", ["-xzf", tarball], { cwd: project });
  const modules = join(project, "node_modules");
  cpSync(join(project, "package"), join(modules, "image-import"), { recursive: true });
  for (const name of dependencies()) link(join(ROOT, "node_modules", name), join(modules, name));
  const bin = join(modules, ".bin/image-import");
  link(join(modules, "image-import/scripts/image-import.mjs"), bin);
  writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
  return project;
}

/** The packages at the top of node_modules that a user of this package gets. */
function dependencies(): string[] {
  const text = readFileSync(join(ROOT, "package-lock.json"), "utf8");
  const { packages } = JSON.parse(text) as Lockfile;
  return Object.entries(packages).flatMap(([path, { dev }]) => {
    const [, name = ""] = /^node_modules\/((?:@[^/]+\/)?[^/]+)$/.exec(path) ?? [];
    return name === "" || dev === true ? [] : [name];
  });
}

function link(target: string, path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  symlinkSync(target, path);
}
