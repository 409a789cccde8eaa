import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Programs that make images. `npm test` installs them and names them by these variables. */
const VARIABLES = {
  "qemu-img": "QEMU_IMG",
  xorriso: "XORRISO",
  sfdisk: "SFDISK",
  sgdisk: "SGDISK",
  cryptsetup: "CRYPTSETUP",
  zstd: "ZSTD",
  xz: "XZ",
  zip: "ZIP_PROGRAM",
  gzip: "GZIP_PROGRAM",
  tar: "TAR",
} as const;

/** Runs a program to its end. @throws Error with what it wrote when it fails, or is missing */
export async function runTool(
  program: keyof typeof VARIABLES,
  args: readonly string[],
  { input, cwd }: { readonly input?: string; readonly cwd?: string } = {},
): Promise<string> {
  const path = process.env[VARIABLES[program]] ?? program;
  // The PATH of an ordinary user lacks the directories of partitioning tools.
  const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
  const running = promisify(execFile)(path, args, { env, cwd });
  running.child.stdin?.end(input);
  return (await running).stdout;
}
