import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath, pathToFileURL } from "node:url";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { digestsOf } from "../support/file-digests.ts";
import { SharedStack, writeDisk } from "../support/shared-stack.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const EXAMPLE = join(ROOT, "examples", "import-a-file.ts");

const stack = new SharedStack();

/**
 * Runs the example as JavaScript, because Node 20 runs no TypeScript, beside the package that it
 * imports from.
 */
async function runExample(env: NodeJS.ProcessEnv, ...args: readonly string[]) {
  const { outputText } = ts.transpileModule(readFileSync(EXAMPLE, "utf8"), {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
  });
  // Given as text, it stands in the working directory, and so within the package.
  const program = ["--input-type=module", "--eval", outputText, "example"];
  const child = spawn(process.execPath, [...program, ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [stdout, stderr] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close"),
  ]);
  return { exitCode: child.exitCode, stdout, stderr };
}

function addresses(): NodeJS.ProcessEnv {
  const { database_url, temporal_address, temporal_namespace, config } = stack.file;
  return {
    DATABASE_URL: database_url,
    TEMPORAL_ADDRESS: temporal_address,
    TEMPORAL_NAMESPACE: temporal_namespace,
    IMAGE_IMPORT_CONFIG: config,
  };
}

describe("examples/import-a-file.ts", () => {
  it("imports a file, tells how far it is, and where its bytes lie", async () => {
    const file = writeDisk();

    const { exitCode, stdout, stderr } = await runExample(addresses(), file);

    const [, imageId = ""] = /^([0-9a-f-]{36}): /.exec(stdout) ?? [];
    const { size, os_hash_value: sha512 } = await digestsOf(file);
    const url = pathToFileURL(join(stack.store("local"), `${imageId}.1`)).href;
    expect({ exitCode, stdout }).toEqual({
      exitCode: 0,
      stdout: `${imageId}: ${size} bytes, sha512 ${sha512}\nlocal: ${url}\n`,
    });
    expect(stderr).toMatch(/^done, local stored\n$/m);
    expect(await stack.showImage(imageId)).toMatchObject({ name: "disk.raw", status: "active" });
  });

  it("tells what went wrong, and the way out", async () => {
    const result = await runExample(addresses(), "nothing.raw");

    expect(result).toEqual({
      exitCode: 1,
      stdout: "",
      stderr: 'FileNotFound: There is no file "nothing.raw"\nCheck the path.\n',
    });
  });

  it("asks for what it needs", async () => {
    const result = await runExample({});

    expect(result).toEqual({
      exitCode: 2,
      stdout: "",
      stderr: "Name a file, and set DATABASE_URL and IMAGE_IMPORT_CONFIG.\n",
    });
  });
});
