import { appendFileSync, copyFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { untilThere } from "./until-there.mjs";

// Stands in for the SDK, whose download brings a program. It writes down its process id.

/** @typedef {{ readonly version: string, readonly downloadDir: string }} Executable */

const { asked, brings, waitsFor } = JSON.parse(process.env["SDK_STAND_IN"] ?? "");

export const TestWorkflowEnvironment = {
  /** @param {{ readonly server: { readonly executable: Executable } }} options */
  async createLocal({ server }) {
    const { version, downloadDir } = server.executable;
    appendFileSync(asked, `${JSON.stringify({ pid: process.pid })}\n`);
    await untilThere(waitsFor);
    const path = join(downloadDir, `temporal-${version}`);
    copyFileSync(brings, `${path}.downloading`);
    renameSync(`${path}.downloading`, path);
    await sleep(60_000);
  },
};
