import { spawn } from "node:child_process";
import { join } from "node:path";
import { say } from "./commands.mjs";
import { install, PACKAGE_ROOT, prepare } from "./prepare.mjs";
import { ensureTemporalCli } from "./temporal-cli.mjs";
import { ensureTestTools } from "./test-tools.mjs";

// Installs the missing programs side by side, and runs the tests. Arguments are passed to vitest
// (`npm test -- --project unit`), except `--temporal 1.31`: a Temporal CLI with that server,
// instead of any that is new enough.

const { vitestArgs, server } = readArguments(process.argv.slice(2));
const s3Server = vitestArgs.length === 0 ? startBuildOfS3Server() : undefined;

const installed = install();
const [temporalCli, tools] = await Promise.all([
  ensureTemporalCli({ installed, server }),
  ensureTestTools(),
  installed.then(() => prepare()),
]);

const vitest = join(PACKAGE_ROOT, "node_modules/vitest/vitest.mjs");
const child = spawn(process.execPath, [vitest, "run", ...vitestArgs], {
  cwd: PACKAGE_ROOT,
  env: { ...process.env, ...tools, TEMPORAL_CLI: temporalCli },
  stdio: "inherit",
});
// The terminal's Ctrl-C reaches vitest too, which then stops the processes that it started. A
// second signal would end it before that.
process.on("SIGINT", () => undefined);
process.on("SIGTERM", () => {
  child.kill("SIGTERM");
});
child.on("error", (error) => {
  say(`Cannot run vitest: ${error.message}`);
  process.exitCode = 1;
});
child.on("exit", (code) => {
  process.exitCode = code ?? 1;
});
child.on("close", () => {
  // The whole group: the compiler that it runs is in it.
  if (s3Server?.pid && s3Server.exitCode === null) process.kill(-s3Server.pid, "SIGTERM");
});

/** @param {string[]} args */
function readArguments(args) {
  const at = args.indexOf("--temporal");
  if (at === -1) return { vitestArgs: args, server: undefined };
  const server = args[at + 1];
  if (/^\d+\.\d+$/.test(server ?? "")) return { vitestArgs: args.toSpliced(at, 2), server };
  say(`Cannot use --temporal ${server ?? ""}: it takes a server's version, such as 1.31`);
  process.exit(2);
}

/**
 * Starts the build of the S3 server, which takes minutes, beside all other work. Tests that need S3
 * wait for the end of the build. A run of a few named tests builds it only if one of them needs it.
 */
function startBuildOfS3Server() {
  return spawn(process.execPath, [join(PACKAGE_ROOT, "scripts/versitygw.mjs")], {
    stdio: ["ignore", "ignore", "inherit"],
    detached: true,
  });
}
