import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, inject, it, onTestFinished, vi } from "vitest";
import { readPage } from "../../scripts/docs/markdown.mjs";
import { readStackFile } from "../../src/config/stack-file.ts";
import { openDataDirectory } from "../../src/stack/data-directory.ts";
import { stopOrphans } from "../../src/stack/orphans.ts";
import { useOrStartStack } from "../../src/stack/use-or-start-stack.ts";
import { allMissing } from "../docs/shell-session.ts";
import { writeRandomFile } from "../support/disk-images.ts";
import { MIB } from "../support/mib.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const BUILT_DEMO = fileURLToPath(new URL("../../dist/stack/demo.js", import.meta.url));

// Each starts and stops a whole stack, some twice.
const LIMIT_MS = 240_000;

/** A demo in a process of its own, as `npm run demo` runs it. */
class Demo {
  output = "";
  readonly child: ChildProcess;
  readonly #closed: Promise<unknown[]>;

  constructor(dataDir: string, ...args: readonly string[]) {
    this.child = spawn(process.execPath, [BUILT_DEMO, "--data-dir", dataDir, ...args], {
      env: { ...process.env, TEMPORAL_CLI: inject("temporalCli") },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on("data", (chunk: Buffer) => (this.output += chunk.toString()));
    }
    this.#closed = once(this.child, "close");
    onTestFinished(async () => {
      this.child.kill("SIGKILL");
      if (existsSync(dataDir)) await stopOrphans(openDataDirectory(dataDir));
    });
  }

  async ended() {
    const [exitCode] = await this.#closed;
    return { exitCode, output: this.output };
  }
}

/** Larger than `import.publish_at_once`, as the demo's own disk: its import takes every step. */
async function makeDisk(): Promise<string> {
  const path = join(makeTemporaryDirectory(), "disk.raw");
  await writeRandomFile(path, 2 * MIB);
  return path;
}

function makeDataDirectory(): string {
  return join(makeTemporaryDirectory(), "data");
}

function stored(dataDir: string): string[] {
  return readdirSync(join(dataDir, "stores", "local")).filter((name) => !name.startsWith("."));
}

/** The output in README.md, with this test's file in the place of the demo's own. */
function shownByReadme(): string[] {
  const demo = readPage("README.md").blocks.find(({ text }) => text.startsWith("$ npm run demo"));
  const [, ...lines] = (demo?.text ?? "").replaceAll("demo-disk.raw", "disk.raw").split("\n");
  return lines
    .filter((line) => !line.includes("making a disk image"))
    .map((line) => line.replace(/\d+ MiB \(\d+ bytes\)/, "…"));
}

describe("npm run demo", () => {
  it(
    "imports, compares, removes its image and stops; a second time, and with --keep, too",
    async () => {
      const dataDir = makeDataDirectory();
      const disk = await makeDisk();

      const first = await new Demo(dataDir, disk).ended();
      expect(first).toMatchObject({ exitCode: 0 });
      expect(first.output).toMatch(/^status +active$/m);
      expect(first.output).toContain("The image is removed;");
      expect(allMissing(shownByReadme(), first.output)).toEqual([]);
      expect(stored(dataDir)).toEqual([]);
      expect(readStackFile(dataDir)).toBeUndefined();

      const second = await new Demo(dataDir, "--keep", disk).ended();
      expect(second).toMatchObject({ exitCode: 0 });
      const [, id] = /^image +([0-9a-f-]{36})/m.exec(second.output) ?? [];
      expect(second.output).toContain(
        `IMAGE_IMPORT_DATA_DIR=${dataDir} npx image-import image delete ${id ?? "?"}`,
      );
      expect(stored(dataDir)).toHaveLength(1);
    },
    LIMIT_MS,
  );

  it("fails with a hint, as a command does, and without a stack", async () => {
    const dataDir = makeDataDirectory();

    const { exitCode, output } = await new Demo(dataDir, "/no/such/disk.raw").ended();

    expect(exitCode).toBe(3);
    expect(output).toMatch(/^error: There is no file "\/no\/such\/disk.raw"\nhint: .+\n$/);
    expect(existsSync(dataDir)).toBe(false);
  });

  it(
    "uses a stack that runs, also in two demos at once, and leaves it running",
    async () => {
      const dataDir = makeDataDirectory();
      const disk = await makeDisk();
      const stack = await useOrStartStack({ dataDir, temporalCli: inject("temporalCli") });
      onTestFinished(async () => stack.stop());

      const demos = [new Demo(dataDir, disk), new Demo(dataDir, disk)];
      const results = await Promise.all(demos.map(async (demo) => demo.ended()));

      expect(results).toMatchObject([{ exitCode: 0 }, { exitCode: 0 }]);
      expect(readStackFile(dataDir)?.state).toBe("ready");
      expect(stored(dataDir)).toEqual([]);
    },
    LIMIT_MS,
  );

  it(
    "takes turns with another demo, which stops the stack that it has started",
    async () => {
      const dataDir = makeDataDirectory();
      const disk = await makeDisk();

      const first = new Demo(dataDir, disk);
      await vi.waitUntil(() => readStackFile(openDataDirectory(dataDir).path) !== undefined, {
        timeout: 60_000,
      });
      const second = new Demo(dataDir, disk);

      expect(await first.ended()).toMatchObject({ exitCode: 0 });
      expect(await second.ended()).toMatchObject({ exitCode: 0 });
    },
    LIMIT_MS,
  );

  it(
    "stops its stack when a signal asks it to end",
    async () => {
      const dataDir = makeDataDirectory();
      const demo = new Demo(dataDir, await makeDisk());
      await vi.waitUntil(() => existsSync(dataDir) && readStackFile(dataDir) !== undefined, {
        timeout: 60_000,
      });

      demo.child.kill("SIGTERM");

      const { exitCode, output } = await demo.ended();
      expect(exitCode).toBe(1);
      expect(output).toContain("error: The demo was interrupted");
      expect(readStackFile(dataDir)).toBeUndefined();
      expect(await stopOrphans(openDataDirectory(dataDir))).toBe(0);
    },
    LIMIT_MS,
  );
});
