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

// Records the histories of this version under test/histories/<version>/, for the tests to replay on
// all later code. Run it before a release: `node scripts/capture-histories.mjs`. It runs a stack of
// its own in a temporary directory.

const MIB = 1024 * 1024;

// Stands for every user and host in the recorded histories.
// eslint-disable-next-line plain-english/words -- the histories of earlier versions have this word
const NO_NAME = "somebody";

// Two copies whose bytes are written, one of them so slowly that a scenario can act in the middle
// of it.
const CONFIG = `default_store: fast
stores:
  fast: {type: file, path: stores/fast, zero_copy: false}
  slow: {type: file, path: stores/slow, zero_copy: false, bandwidth_limit: 1MiB}
`;

/**
 * @typedef {{ client: import("#dist/client/index.js").ImageImportClient, temporal: (command:
 *   string, ...args: string[]) => Promise<string> }} Service
 */

/**
 * @type {Record<string, (service: Service) => Promise<string>>} each resolves with the id of its
 *   workflow
 */
const SCENARIOS = {
  async succeeded(service) {
    const { imageId } = await started(service, 1000);
    await service.client.imports.wait(imageId);
    return importOf(imageId);
  },

  async "failed-and-undone"(service) {
    const { imageId, path } = await started(service, 6 * MIB);
    await inTheMiddle(service, imageId);
    // The copy finds the upload shorter than it was.
    await truncate(path, 3 * MIB);
    await ended(service, imageId);
    return importOf(imageId);
  },

  async cancelled(service) {
    const { imageId } = await started(service, 6 * MIB);
    await inTheMiddle(service, imageId);
    await service.client.imports.cancel(imageId, { wait: true });
    return importOf(imageId);
  },

  async "paused-and-resumed"(service) {
    const { imageId } = await started(service, 4 * MIB);
    await inTheMiddle(service, imageId);
    await service.client.imports.pause(imageId);
    await until(async () => (await service.client.imports.status(imageId)).pause === "paused");
    await service.client.imports.resume(imageId);
    await service.client.imports.wait(imageId);
    return importOf(imageId);
  },

  async "store-given-up"(service) {
    const { imageId, path } = await started(service, 6 * MIB, { allStoresMustSucceed: false });
    await inTheMiddle(service, imageId);
    await truncate(path, 3 * MIB);
    await service.client.imports.wait(imageId);
    return importOf(imageId);
  },

  async "store-dropped"(service) {
    const { imageId } = await started(service, 6 * MIB);
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
    const { imageId } = await started(service, 6 * MIB);
    await inTheMiddle(service, imageId);
    await service.client.images.delete(imageId);
    return `image-delete/${imageId}`;
  },

  async reconciled(service) {
    const { imageId } = await started(service, 6 * MIB);
    await inTheMiddle(service, imageId);
    await service.temporal("terminate", "--workflow-id", importOf(imageId));
    const reconciler = ["--type", "reconcileImports", "--workflow-id", "reconcile-now"];
    await service.temporal("execute", ...reconciler, "--task-queue", "image-import");
    return "reconcile-now";
  },
};

await prepare();
const temporalCli = await ensureTemporalCli();
const { startStack } = await import("#dist/stack/stack.js");
const { ImageImportClient } = await import("#dist/client/index.js");
const { readConfig } = await import("#dist/config/config.js");

/** @type {{ version: string }} */
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

/** @param {import("#dist/stack/stack-record.js").StackAddresses} addresses */
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

/** @param {string} imageId */
function importOf(imageId) {
  return `image-import/${imageId}`;
}

/**
 * @param {Service} service @param {number} sizeBytes @param
 *   {Parameters<Service["client"]["imports"]["start"]>[1]} options
 */
async function started({ client }, sizeBytes, options = {}) {
  const { id } = await client.images.create({ diskFormat: "raw", containerFormat: "bare" });
  const { path } = await client.files.stage(id, Readable.from([randomBytes(sizeBytes)]));
  await client.imports.start(id, { stores: ["fast", "slow"], ...options });
  return { imageId: id, path };
}

/**
 * Waits until the copy in `fast` is complete and the copy in `slow` has begun.
 *
 * @param {Service} service
 * @param {string} imageId
 */
async function inTheMiddle({ client }, imageId) {
  await until(async () => {
    const { fast, slow } = (await client.imports.status(imageId)).stores;
    return fast?.state === "stored" && (slow?.done_bytes ?? 0) > 0;
  });
}

/** @param {Service} service @param {string} imageId */
async function ended({ client }, imageId) {
  await client.imports.wait(imageId).catch(() => undefined);
}

/** @param {() => Promise<boolean>} condition */
async function until(condition) {
  while (!(await condition())) await sleep(50);
}

/**
 * @param {import("#dist/stack/stack-record.js").StackAddresses} addresses @returns
 *   {Service["temporal"]}
 */
function temporalOf({ temporal_address: address, temporal_namespace: namespace }) {
  return async (command, ...args) => {
    const where = ["--address", address, "--namespace", namespace, "--output", "json"];
    const options = { maxBuffer: 64 * MIB };
    const all = ["workflow", command, ...args, ...where];
    return (await promisify(execFile)(temporalCli, all, options)).stdout;
  };
}

/**
 * Removes the names of users and hosts, and the paths of the software, from a history: they are
 * private, and replay does not need them.
 *
 * @param {string} history
 */
function anonymous(history) {
  /** @type {(key: string, value: unknown) => unknown} */
  const nameless = (key, value) => {
    if (key === "stackTrace") return "";
    if (key === "identity") return NO_NAME;
    return typeof value === "string" ? value.replace(/^\d+@[^:]+/, NO_NAME) : value;
  };
  return JSON.stringify(JSON.parse(history, nameless), null, 1);
}
