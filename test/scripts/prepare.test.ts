import { execFile } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

const PROGRAM = 'export const word: string = "first";\n';

/** A clone with one source file and the installed dependencies of this one. */
function makeClone(): string {
  const clone = makeTemporaryDirectory();
  for (const name of ["scripts", "package.json", "tsconfig.json", "tsconfig.build.json"]) {
    cpSync(join(ROOT, name), join(clone, name), { recursive: true });
  }
  // Only what a build needs, link by link: whatever happens to this folder must not happen to ours.
  mkdirSync(join(clone, "node_modules"));
  for (const name of ["typescript", "@types", "undici-types"]) {
    symlinkSync(join(ROOT, "node_modules", name), join(clone, "node_modules", name));
  }
  const installed = join(ROOT, "node_modules/.package-lock.json");
  cpSync(installed, join(clone, "package-lock.json"));
  cpSync(installed, join(clone, "node_modules/.package-lock.json"));
  mkdirSync(join(clone, "src/db/migrations"), { recursive: true });
  writeFileSync(join(clone, "src/program.ts"), PROGRAM);
  writeFileSync(join(clone, "src/db/migrations/0000_first.sql"), "SELECT 1;\n");
  return clone;
}

async function prepare(clone: string): Promise<string> {
  const script = join(clone, "scripts/prepare.mjs");
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [script]);
  // Lines of progress come on slow machines only.
  return (stdout + stderr).replaceAll(/^….*\n/gm, "");
}

describe("prepare()", () => {
  it("builds the sources, with the migrations beside them", async () => {
    const clone = makeClone();

    const printed = await prepare(clone);

    expect(printed).toBe("Building …\n");
    expect(readFileSync(join(clone, "dist/program.js"), "utf8")).toContain('word = "first"');
    expect(existsSync(join(clone, "dist/db/migrations/0000_first.sql"))).toBe(true);
  });

  it("does nothing and prints nothing when nothing has changed", async () => {
    const clone = makeClone();
    await prepare(clone);

    expect(await prepare(clone)).toBe("");
  });

  it("builds again when a source has changed", async () => {
    const clone = makeClone();
    await prepare(clone);
    writeFileSync(join(clone, "src/program.ts"), PROGRAM.replace("first", "second"));

    const printed = await prepare(clone);

    expect(printed).toBe("Building …\n");
    expect(readFileSync(join(clone, "dist/program.js"), "utf8")).toContain('word = "second"');
  });

  it("removes a file from the build that was removed from the sources", async () => {
    const clone = makeClone();
    writeFileSync(join(clone, "src/gone.ts"), PROGRAM);
    await prepare(clone);
    rmSync(join(clone, "src/gone.ts"));

    await prepare(clone);

    expect(existsSync(join(clone, "dist/gone.js"))).toBe(false);
    expect(existsSync(join(clone, "dist/program.js"))).toBe(true);
  });

  it("builds again after an interrupted build", async () => {
    const clone = makeClone();
    await prepare(clone);
    rmSync(join(clone, "dist/.build-stamp"));

    expect(await prepare(clone)).toBe("Building …\n");
  });

  it("builds once when several programs start at once", async () => {
    const clone = makeClone();

    const printed = await Promise.all([prepare(clone), prepare(clone), prepare(clone)]);

    expect(printed.filter((output) => output !== "")).toEqual(["Building …\n"]);
  });

  it("does nothing for a package without sources", async () => {
    const clone = makeClone();
    rmSync(join(clone, "src"), { recursive: true });

    const printed = await prepare(clone);

    expect(printed).toBe("");
    expect(existsSync(join(clone, "dist"))).toBe(false);
  });
});
