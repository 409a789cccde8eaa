import { execFile, execFileSync } from "node:child_process";
import { promisify } from "node:util";

// `npm test` gets and names them; without it they are taken from PATH.
const TOOLS = {
  gzip: "gzip",
  zstd: process.env["ZSTD"] ?? "zstd",
  xz: process.env["XZ"] ?? "xz",
  zip: process.env["ZIP_PROGRAM"] ?? "zip",
} as const;

/** The programs that a decompression needs. */
export const DECOMPRESSORS = { zstd: TOOLS.zstd, xz: TOOLS.xz };

/** The missing tools, for the titles of tests that are skipped without them. */
export const MISSING_COMPRESSOR = Object.values(TOOLS).find((tool) => !runs(tool));

function runs(program: string): boolean {
  try {
    execFileSync(program, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/**
 * Runs the real tool with a file as its input, and puts what comes out into another.
 *
 * @returns the path of the output
 */
export async function compress(
  tool: "gzip" | "zstd" | "xz" | "zip",
  input: string,
  options: readonly string[] = [],
  output = `${input}.${tool}`,
): Promise<string> {
  const args = { gzip: ["-c"], zstd: ["-q", "-c"], xz: ["-0", "-c"], zip: ["-q", "-", "-"] }[tool];
  // Through a pipe: zip would go back in a file, and write there what otherwise follows the member.
  const script = '"$0" "$@" <"$IN" | cat >"$OUT"';
  await promisify(execFile)("sh", ["-c", script, TOOLS[tool], ...args, ...options], {
    env: { ...process.env, IN: input, OUT: output },
  });
  return output;
}

/** An archive of files by their names, seen from `directory`; the real tool decides how. */
export async function zipFiles(
  directory: string,
  archive: string,
  names: readonly string[],
  options: readonly string[] = [],
): Promise<string> {
  await promisify(execFile)(TOOLS.zip, ["-q", ...options, archive, ...names], { cwd: directory });
  return archive;
}
