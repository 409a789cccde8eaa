import { spawnSync } from "node:child_process";
import { cpSync, existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BUILD_STAMP, sourceFingerprint } from "./build-stamp.mjs";

// Builds dist/ from src/: the programs, the migrations beside them, and the workflow bundle, so that
// a worker need not bundle when it starts. Compiled beside dist/ and renamed into place: a file that
// was deleted in src/ is gone from dist/ too, and no program starts from a half-written tree.

const root = fileURLToPath(new URL("..", import.meta.url));
const inRoot = (path) => join(root, path);

// Taken first: a source that changes during the build makes the build stale.
const fingerprint = sourceFingerprint(root);

rmSync(inRoot(".dist-new"), { recursive: true, force: true });
rmSync(inRoot(".dist-old"), { recursive: true, force: true });
compile();
copyMigrations();
moveIntoPlace();
await bundleWorkflow();
writeFileSync(inRoot(BUILD_STAMP), fingerprint);

function compile() {
  // Types are judged by `npm run check`; a start need not wait for that a second time.
  const tsc = inRoot("node_modules/typescript/bin/tsc");
  const args = [tsc, "-p", "tsconfig.build.json", "--outDir", ".dist-new", "--noCheck"];
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

function copyMigrations() {
  if (!existsSync(inRoot("src/db/migrations"))) return;
  cpSync(inRoot("src/db/migrations"), inRoot(".dist-new/db/migrations"), { recursive: true });
}

function moveIntoPlace() {
  rmSync(inRoot(BUILD_STAMP), { force: true });
  if (existsSync(inRoot("dist"))) renameSync(inRoot("dist"), inRoot(".dist-old"));
  renameSync(inRoot(".dist-new"), inRoot("dist"));
  rmSync(inRoot(".dist-old"), { recursive: true, force: true });
}

async function bundleWorkflow() {
  if (!existsSync(inRoot("dist/workflow/index.js"))) return;
  const { bundleWorkflowCode } = await import("@temporalio/worker");
  const { code } = await bundleWorkflowCode({
    workflowsPath: inRoot("dist/workflow"),
    logger: onlyWarnings(),
  });
  writeFileSync(inRoot("dist/workflow-bundle.js.new"), code);
  renameSync(inRoot("dist/workflow-bundle.js.new"), inRoot("dist/workflow-bundle.js"));
}

function onlyWarnings() {
  const quiet = () => undefined;
  const loud = (message, meta) => console.error(message, meta ?? "");
  const log = (level, message, meta) => {
    if (level === "WARN" || level === "ERROR") loud(message, meta);
  };
  return { log, trace: quiet, debug: quiet, info: quiet, warn: loud, error: loud };
}
