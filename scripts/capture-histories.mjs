import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { say } from "./commands.mjs";
import { PACKAGE_ROOT, prepare } from "./prepare.mjs";
import { ensureTemporalCli } from "./temporal-cli.mjs";

// Keeps the histories of this version under test/histories/<version>/, for the tests to replay on all later code. Run
// it before a release: `node scripts/capture-histories.mjs`. It runs a stack of its own in a directory that goes.

const MEBIBYTE = 1024 * 1024;

// Two copies that really are written, one of them slowly enough to be met in the middle.
const CONFIG = `default_store: fast
stores:
  fast: {type: file, path: stores/fast, zero_copy: false}
  slow: {type: file, path: stores/slow, zero_copy: false, bandwidth_limit: 1MiB}
`;

const SCENARIOS = {
  async succeeded(service) {
    const { imageId } = await started(service, 1000);
    await service.client.imports.wait(imageId);
    return importOf(imageId);
  },

  async "failed-and-undone"(service) {
    const { imageId, path } = await started(service, 6 * MEBIBYTE);
    await inTheMiddle(service, imageId);
    // The rest of the staged bytes is gone when the copy comes to it.
    await truncate(path, 3 * MEBIBYTE);
    await ended(service, imageId);
    return importOf(imageId);
  },

  async cancelled(service) {
    const { imageId } = await started(service, 6 * MEBIBYTE);
    await inTheMiddle(service, imageId);
    await service.client.imports.cancel(imageId, { wait: true });
    return importOf(imageId);
  },

  async "paused-and-resumed"(service) {
    const { imageId } = await started(service, 4 * MEBIBYTE);
    await inTheMiddle(service, imageId);
    await service.client.imports.pause(imageId);
    await until(async () => (await service.client.imports.status(imageId)).pause === "paused");
    await service.client.imports.resume(imageId);
    await service.client.imports.wait(imageId);
    return importOf(imageId);
  },

  async "store-given-up"(service) {
    const { imageId, path } = await started(service, 6 * MEBIBYTE, { allStoresMustSucceed: false });
    await inTheMiddle(service, imageId);
    await truncate(path, 3 * MEBIBYTE);
    await service.client.imports.wait(imageId);
    return importOf(imageId);
  },

  async "store-dropped"(service) {
    const { imageId } = await started(service, 6 * MEBIBYTE);
    await inTheMiddle(service, imageId);
    await service.client.imports.dropStore(imageId, "slow");
    await service.client.imports.wait(imageId);
    return importOf(imageId);
  },

  async "copy-removed"(service) {
    const { imageId } = await started(service, 1000);
    await service.client.imports.wait(imageId);
    await service.client.images.removeCopy(imageId, "slow");
    return `image-remove-copy/${imageId}/slow/1`;
  },

  async deleted(service) {
    const { imageId } = await started(service, 6 * MEBIBYTE);
    await inTheMiddle(service, imageId);
    await service.client.images.delete(imageId);
    return `image-delete/${imageId}`;
  },

  async reconciled(service) {
    const { imageId } = await started(service, 6 * MEBIBYTE);
    await inTheMiddle(service, imageId);
    await service.temporal("terminate", "--workflow-id", importOf(imageId));
    const reconciler = ["--type", "reconcileImports", "--workflow-id", "reconcile-now"];
    await service.temporal("execute", ...reconciler, "--task-queue", "image-import");
    return "reconcile-now";
  },
};

await prepare();
const temporalCli = await ensureTemporalCli();
const { startStack } = await import("../dist/stack/stack.js");
const { ImageImportClient } = await import("../dist/client/index.js");
const { readConfig } = await import("../dist/config/config.js");

const { version } = JSON.parse(await readFile(join(PACKAGE_ROOT, "package.json"), "utf8"));
const target = join(PACKAGE_ROOT, "test/histories", version);
const dataDir = await mkdtemp(join(tmpdir(), "image-import-histories-"));
try {
  for (const store of ["fast", "slow"]) {
    await mkdir(join(dataDir, "stores", store), { recursive: true });
  }
  await writeFile(join(dataDir, "image-import.yaml"), CONFIG);
  const stack = await startStack({ dataDir, temporalCli, log: say });
  try {
    await captureAll(stack.addresses);
  } finally {
    await stack.stop();
  }
} finally {
  await rm(dataDir, { recursive: true, force: true });
}

async function captureAll(addresses) {
  const client = await ImageImportClient.connect({
    temporal: { address: addresses.temporal_address, namespace: addresses.temporal_namespace },
    databaseUrl: addresses.database_url,
    config: readConfig(addresses.config),
  });
  const service = { client, temporal: temporalOf(addresses) };
  try {
    await rm(target, { recursive: true, force: true });
    await mkdir(target, { recursive: true });
    for (const [name, scenario] of Object.entries(SCENARIOS)) {
      const workflowId = await scenario(service);
      const history = await service.temporal("show", "--workflow-id", workflowId);
      await writeFile(join(target, `${name}.json`), `${anonymous(history)}\n`);
      say(`  ${name}.json  ${workflowId}`);
    }
  } finally {
    await client.close();
  }
}

function importOf(imageId) {
  return `image-import/${imageId}`;
}

async function started({ client }, sizeBytes, options = {}) {
  const { id } = await client.images.create({ diskFormat: "raw", containerFormat: "bare" });
  const { path } = await client.files.stage(id, Readable.from([randomBytes(sizeBytes)]));
  await client.imports.start(id, { stores: ["fast", "slow"], ...options });
  return { imageId: id, path };
}

/** Waits until `fast` has its copy and `slow` is in the middle of it. */
async function inTheMiddle({ client }, imageId) {
  await until(async () => {
    const { stores } = await client.imports.status(imageId);
    return stores.fast?.state === "stored" && stores.slow?.done_bytes > 0;
  });
}

async function ended({ client }, imageId) {
  await client.imports.wait(imageId).catch(() => undefined);
}

async function until(condition) {
  while (!(await condition())) await sleep(50);
}

function temporalOf({ temporal_address: address, temporal_namespace: namespace }) {
  return async (command, ...args) => {
    const where = ["--address", address, "--namespace", namespace, "--output", "json"];
    const options = { maxBuffer: 64 * MEBIBYTE };
    const all = ["workflow", command, ...args, ...where];
    return (await promisify(execFile)(temporalCli, all, options)).stdout;
  };
}

/**
 * Who ran it, and on which machine, is nobody's business: users, hosts and paths of the software go.
 * Replay needs none of them.
 */
function anonymous(history) {
  const nameless = (key, value) => {
    if (key === "stackTrace") return "";
    if (key === "identity") return "somebody";
    return typeof value === "string" ? value.replace(/^\d+@[^:]+/, "somebody") : value;
  };
  return JSON.stringify(JSON.parse(history, nameless), null, 1);
}
