import { install, prepare } from "./prepare.mjs";
import { ensureTemporalCli } from "./temporal-cli.mjs";

/**
 * Makes a program that starts Temporal runnable, and runs it in this process. The Temporal CLI is
 * downloaded while dependencies are installed and sources are built.
 *
 * @param {() => Promise<unknown>} program - imports the program's module; called once everything is
 *   there
 */
export async function runWithTemporal(program) {
  const installed = install();
  const [cli] = await Promise.all([
    ensureTemporalCli({ installed }),
    installed.then(() => prepare()),
  ]);
  process.env["TEMPORAL_CLI"] = cli;
  await program();
}
