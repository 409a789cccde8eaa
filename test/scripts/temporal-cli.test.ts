import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const SCRIPT = fileURLToPath(new URL("../../scripts/temporal-cli.mjs", import.meta.url));

interface Printed {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
}

/** Runs the script with nothing on PATH and an empty cache, unless `env` says otherwise. */
function findCli(env: NodeJS.ProcessEnv): Printed {
  const empty = makeTemporaryDirectory();
  return spawnSync(process.execPath, [SCRIPT], {
    encoding: "utf8",
    env: { PATH: empty, XDG_CACHE_HOME: empty, ...env },
  });
}

/** A program that says it is a Temporal CLI of this version. */
function makeCli(path: string, printedVersion: string): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\necho "temporal version ${printedVersion}"\n`);
  chmodSync(path, 0o755);
  return path;
}

const RECENT = "1.6.0 (Server 1.30.0, UI 2.45.0)";
const NEWER = "2.0.0 (Server 2.1.0, UI 3.0.0)";
const OLD = "1.5.1 (Server 1.29.1, UI 2.42.1)";

describe("ensureTemporalCli()", () => {
  it("prefers the one that TEMPORAL_CLI names to the one on PATH", () => {
    const directory = makeTemporaryDirectory();
    const named = makeCli(join(directory, "named", "temporal"), RECENT);
    makeCli(join(directory, "bin", "temporal"), NEWER);

    const printed = findCli({ TEMPORAL_CLI: named, PATH: join(directory, "bin") });

    expect(printed).toMatchObject({ stdout: `${named}\n`, stderr: "", status: 0 });
  });

  it("skips one whose server is too old, and reports that", () => {
    const directory = makeTemporaryDirectory();
    const named = makeCli(join(directory, "named", "temporal"), OLD);
    const onPath = makeCli(join(directory, "bin", "temporal"), RECENT);

    const printed = findCli({ TEMPORAL_CLI: named, PATH: join(directory, "bin") });

    expect(printed.stdout).toBe(`${onPath}\n`);
    expect(printed.stderr).toBe(
      `Skipping the Temporal CLI ${named} (from TEMPORAL_CLI): its server is 1.29.1, wanted 1.30 or newer\n`,
    );
  });

  it("skips one that names no server, and a path that is not a program", () => {
    const directory = makeTemporaryDirectory();
    const silent = makeCli(join(directory, "silent", "temporal"), "1.6.0");
    const onPath = makeCli(join(directory, "bin", "temporal"), NEWER);
    const PATH = join(directory, "bin");

    const afterSilent = findCli({ TEMPORAL_CLI: silent, PATH });
    const afterMissing = findCli({ TEMPORAL_CLI: "/nowhere/temporal", PATH });

    expect(afterSilent.stderr).toContain("it names no server");
    expect(afterSilent.stdout).toBe(`${onPath}\n`);
    expect(afterMissing.stderr).toBe("Skipping TEMPORAL_CLI=/nowhere/temporal: not a program\n");
    expect(afterMissing.stdout).toBe(`${onPath}\n`);
  });

  it("skips one that does not run, though its child process continues", () => {
    const directory = makeTemporaryDirectory();
    const broken = makeCli(join(directory, "broken", "temporal"), RECENT);
    const left = join(directory, "left");
    writeFileSync(broken, `#!/bin/sh\n/bin/sleep 1000 &\necho $! >${left}\nexit 3\n`);
    const onPath = makeCli(join(directory, "bin", "temporal"), NEWER);

    const printed = findCli({ TEMPORAL_CLI: broken, PATH: join(directory, "bin") });

    process.kill(Number(readFileSync(left, "utf8")));
    expect(printed.stdout).toBe(`${onPath}\n`);
    expect(printed.stderr).toContain("it does not run, wanted 1.30 or newer");
  });

  it("uses the one that was built into the cache before", () => {
    const cache = makeTemporaryDirectory();
    const built = makeCli(join(cache, "image-import", "temporal-cli-v1.8.2", "temporal"), RECENT);

    const printed = findCli({ XDG_CACHE_HOME: cache });

    expect(printed).toMatchObject({ stdout: `${built}\n`, stderr: "", status: 0 });
  });
});
