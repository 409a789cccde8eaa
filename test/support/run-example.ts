import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import type { StackFile } from "../../src/config/stack-file.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/**
 * Runs an example as JavaScript, because Node 20 runs no TypeScript, beside the package that it
 * imports from.
 *
 * @param name - of the file in examples/
 */
export async function runExample(name: string, env: NodeJS.ProcessEnv, ...args: readonly string[]) {
  const { outputText } = ts.transpileModule(readFileSync(join(ROOT, "examples", name), "utf8"), {
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

/** The variables that `npm start` prints for the examples. */
export function addressesOf(stack: StackFile): NodeJS.ProcessEnv {
  return {
    DATABASE_URL: stack.database_url,
    TEMPORAL_ADDRESS: stack.temporal_address,
    TEMPORAL_NAMESPACE: stack.temporal_namespace,
    IMAGE_IMPORT_CONFIG: stack.config,
  };
}
