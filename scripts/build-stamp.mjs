import { createHash } from "node:crypto";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/** Written last by a build, so that an interrupted build is noticed and repeated. */
export const BUILD_STAMP = "dist/.build-stamp";

const BUILD_INPUTS = [
  "src",
  "tsconfig.json",
  "tsconfig.build.json",
  "scripts/build.mjs",
  "package-lock.json",
];

/**
 * A digest of the build's inputs: of their names, sizes and times, so that a deleted file counts
 * and no content has to be read (a few milliseconds).
 *
 * @param {string} packageRoot
 */
export function sourceFingerprint(packageRoot) {
  const hash = createHash("sha256");
  for (const path of BUILD_INPUTS.flatMap((input) => filesBelow(packageRoot, input))) {
    const { size, mtimeMs } = statSync(join(packageRoot, path));
    hash.update(`${path}\0${size}\0${mtimeMs}\n`);
  }
  return hash.digest("hex");
}

/** @param {string} root @param {string} path @returns {string[]} */
function filesBelow(root, path) {
  if (!existsSync(join(root, path))) return [];
  if (!statSync(join(root, path)).isDirectory()) return [path];
  const names = readdirSync(join(root, path)).sort();
  return names.flatMap((name) => filesBelow(root, join(path, name)));
}
