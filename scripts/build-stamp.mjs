import { createHash } from "node:crypto";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/** Written last by a build, so that an interrupted one is seen and done again. */
export const BUILD_STAMP = "dist/.build-stamp";

const BUILD_INPUTS = [
  "src",
  "tsconfig.json",
  "tsconfig.build.json",
  "scripts/build.mjs",
  "package-lock.json",
];

/**
 * What a build is made from, in one word: names, sizes and times, so that a deleted file counts
 * and no content has to be read (a few milliseconds).
 */
export function sourceFingerprint(packageRoot) {
  const hash = createHash("sha256");
  for (const path of BUILD_INPUTS.flatMap((input) => filesBelow(packageRoot, input))) {
    const { size, mtimeMs } = statSync(join(packageRoot, path));
    hash.update(`${path}\0${size}\0${mtimeMs}\n`);
  }
  return hash.digest("hex");
}

function filesBelow(root, path) {
  if (!existsSync(join(root, path))) return [];
  if (!statSync(join(root, path)).isDirectory()) return [path];
  const names = readdirSync(join(root, path)).sort();
  return names.flatMap((name) => filesBelow(root, join(path, name)));
}
