import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import { BUILD_STAMP, sourceFingerprint } from "./build-stamp.mjs";

// Builds dist/ from src/: the programs, the migrations beside them, and the workflow bundle, so
// that a worker need not bundle when it starts. The complete tree is made beside dist/ and renamed
// into place. So a file that was deleted in src/ is deleted in dist/ too, and during a build,
// programs start from the previous tree instead of an incomplete one.

const root = fileURLToPath(new URL("..", import.meta.url));
/** @param {string} path */
const inRoot = (path) => join(root, path);

// Taken first: a source that changes during the build makes the build stale.
const fingerprint = sourceFingerprint(root);

rmSync(inRoot(".dist-new"), { recursive: true, force: true });
rmSync(inRoot(".dist-old"), { recursive: true, force: true });
compile();
requireRewrittenImports();
copyMigrations();
await bundleWorkflow();
writeFileSync(inRoot(BUILD_STAMP.replace("dist/", ".dist-new/")), fingerprint);
moveIntoPlace();

function compile() {
  // `npm run check` checks the types; a start need not wait for that a second time.
  const tsc = inRoot("node_modules/typescript/bin/tsc");
  const args = [tsc, "-p", "tsconfig.build.json", "--outDir", ".dist-new", "--noCheck"];
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

/**
 * Ends the build if the compiler left an `import("./name.ts")` as it is, which it does in a
 * function that contains `using`: the program would fail at that line.
 */
function requireRewrittenImports() {
  for (const name of readdirSync(inRoot(".dist-new"), { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".js")) continue;
    const [left] =
      /\bimport\("\.[^"]*\.ts"\)/.exec(readFileSync(inRoot(`.dist-new/${name}`), "utf8")) ?? [];
    if (left === undefined) continue;
    process.stderr.write(
      `Cannot build src/${name.replace(/js$/, "ts")}: the compiler did not rewrite ${left}. Move it to a function without \`using\`\n`,
    );
    process.exit(1);
  }
}

function copyMigrations() {
  if (!existsSync(inRoot("src/db/migrations"))) return;
  cpSync(inRoot("src/db/migrations"), inRoot(".dist-new/db/migrations"), { recursive: true });
}

function moveIntoPlace() {
  if (existsSync(inRoot("dist"))) renameSync(inRoot("dist"), inRoot(".dist-old"));
  renameSync(inRoot(".dist-new"), inRoot("dist"));
  rmSync(inRoot(".dist-old"), { recursive: true, force: true });
}

async function bundleWorkflow() {
  if (!existsSync(inRoot(".dist-new/workflow/index.js"))) return;
  const { bundleWorkflowCode } = await import("@temporalio/worker");
  const { code } = await bundleWorkflowCode({
    workflowsPath: inRoot(".dist-new/workflow"),
    workflowInterceptorModules: [inRoot(".dist-new/workflow/log-attributes.js")],
    logger: onlyWarnings(),
  });
  writeFileSync(inRoot(".dist-new/workflow-bundle.js"), code);
}

/** @returns {import("@temporalio/worker").Logger} */
function onlyWarnings() {
  const quiet = () => undefined;
  const loud = (/** @type {string} */ message, /** @type {unknown} */ meta) => {
    process.stderr.write(`${message} ${meta === undefined ? "" : inspect(meta)}\n`);
  };
  return {
    log: (level, message, meta) => {
      if (level === "WARN" || level === "ERROR") loud(message, meta);
    },
    ...{ trace: quiet, debug: quiet, info: quiet, warn: loud, error: loud },
  };
}
