import { spawn } from "node:child_process";
import { join } from "node:path";
import { ensureImageTools } from "./image-tools.mjs";
import { ensureMkfsBtrfs } from "./mkfs-btrfs.mjs";
import { PACKAGE_ROOT, prepare } from "./prepare.mjs";
import { ensureQemuImg } from "./qemu-img.mjs";
import { ensureTemporalCli } from "./temporal-cli.mjs";
import { ensureVersitygw } from "./versitygw.mjs";
import { ensureXorriso } from "./xorriso.mjs";

// Installs what is missing and runs the tests; arguments go on to vitest (`npm test -- --project unit`).

await prepare();
const qemuImg = await ensureQemuImg();
const xorriso = await ensureXorriso();
const mkfsBtrfs = await ensureMkfsBtrfs();
const versitygw = await ensureVersitygw();
const env = {
  ...process.env,
  ...(await ensureImageTools()),
  TEMPORAL_CLI: await ensureTemporalCli(),
  ...(qemuImg ? { QEMU_IMG: qemuImg } : {}),
  ...(xorriso ? { XORRISO: xorriso } : {}),
  ...(mkfsBtrfs ? { MKFS_BTRFS: mkfsBtrfs } : {}),
  ...(versitygw ? { VERSITYGW: versitygw } : {}),
};

const vitest = join(PACKAGE_ROOT, "node_modules/vitest/vitest.mjs");
const args = [vitest, "run", ...process.argv.slice(2)];
const child = spawn(process.execPath, args, { cwd: PACKAGE_ROOT, env, stdio: "inherit" });
// The terminal's Ctrl-C reaches vitest too, which then stops what it started; a second one would make it leave that.
process.on("SIGINT", () => undefined);
process.on("SIGTERM", () => child.kill("SIGTERM"));
child.on("error", (error) => {
  console.error(`Cannot run vitest: ${error.message}`);
  process.exitCode = 1;
});
child.on("exit", (code) => {
  process.exitCode = code ?? 1;
});
