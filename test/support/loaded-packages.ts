import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const LOADED_MODULES = fileURLToPath(new URL("./programs/loaded-modules.mjs", import.meta.url));

/**
 * Runs a program with Node, and returns the names of the packages that it loads.
 *
 * @param args - the program and its arguments
 */
export function loadedPackages(
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
): string[] {
  const { stdout } = spawnSync(process.execPath, ["--import", LOADED_MODULES, ...args], {
    ...options,
    encoding: "utf8",
  });
  const names = stdout.split("\n").flatMap((path) => {
    const [, name] = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path) ?? [];
    return name ?? [];
  });
  return [...new Set(names)];
}
