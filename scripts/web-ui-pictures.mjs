import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Connection, WorkflowClient } from "@temporalio/client";
import { Browser } from "./browser.mjs";
import { say } from "./commands.mjs";
import { PACKAGE_ROOT, prepare } from "./prepare.mjs";
import { ensureTemporalCli } from "./temporal-cli.mjs";

// Takes the pictures of the Web UI in docs/: `node scripts/web-ui-pictures.mjs`. It needs Chromium
// (`apt-get install chromium`, or its path in CHROMIUM), and runs a stack of its own in a temporary
// directory. `pngquant` on PATH makes the files smaller. Look at each picture before you keep it.

const MIB = 1024 * 1024;

const CONFIG = `default_store: local
stores:
  local: {type: file, path: stores/local}
  archive: {type: file, path: stores/archive, zero_copy: false, bandwidth_limit: 2MiB}
`;

/** @typedef {import("#dist/client/index.js").ImageImportClient} Client */

/**
 * @type {Record<string, { tab: string, height: number, text: string, make: (client: Client) =>
 *   Promise<string>
 *   }>}
 *   by the name of the picture; `make` resolves with the id of the image
 */
const PICTURES = {
  finished: {
    tab: "timeline",
    height: 1000,
    text: "unstage: delete the staged data",
    async make(client) {
      const { id } = await started(client, "fedora-43.raw", 2 * MIB);
      await client.imports.wait(id);
      return id;
    },
  },
  // The timeline of a failed run shows a stack trace with paths of this machine.
  failed: {
    tab: "user-metadata",
    height: 820,
    text: "Details",
    async make(client) {
      const { id, path } = await started(client, "debian-13.raw", 8 * MIB);
      await inTheMiddle(client, id);
      // The copy finds the upload shorter than it was.
      await truncate(path, 3 * MIB);
      await client.imports.wait(id).catch(() => undefined);
      return id;
    },
  },
  cancelled: {
    tab: "timeline",
    height: 1000,
    text: "undo: release the claim",
    async make(client) {
      const { id } = await started(client, "alpine-3.23.raw", 8 * MIB);
      await inTheMiddle(client, id);
      await client.imports.cancel(id, { wait: true });
      return id;
    },
  },
  running: {
    tab: "user-metadata",
    height: 820,
    text: "Details",
    async make(client) {
      const { id } = await started(client, "ubuntu-26.04.raw", 512 * MIB);
      await inTheMiddle(client, id);
      return id;
    },
  },
};

await prepare();
const temporalCli = await ensureTemporalCli();
const { startStack } = await import("#dist/stack/stack.js");
const { ImageImportClient } = await import("#dist/client/index.js");
const { readConfig } = await import("#dist/config/config.js");

const dataDir = await mkdtemp(join(tmpdir(), "image-import-pictures-"));
try {
  await writeFile(join(dataDir, "image-import.yaml"), CONFIG);
  await mkdir(join(dataDir, "stores"));
  const stack = await startStack({ dataDir, temporalCli, log: say });
  try {
    await takeAll(stack.addresses);
  } finally {
    await stack.stop();
  }
} finally {
  await rm(dataDir, { recursive: true, force: true });
}

/** @param {import("#dist/stack/stack-record.js").StackAddresses} addresses */
async function takeAll({ temporal_address: address, database_url, config, web_ui: webUi }) {
  const client = await ImageImportClient.connect({
    temporal: { address },
    databaseUrl: database_url,
    config: readConfig(config),
  });
  const connection = await Connection.connect({ address });
  const browser = new Browser(process.env["CHROMIUM"] ?? "chromium", join(dataDir, "chromium"));
  const workflows = `${webUi}/namespaces/default/workflows`;
  try {
    for (const [name, { tab, height, text, make }] of Object.entries(PICTURES)) {
      const handle = new WorkflowClient({ connection }).getHandle(
        `image-import/${await make(client)}`,
      );
      const { runId } = await handle.describe();
      const page = `${workflows}/${encodeURIComponent(handle.workflowId)}/${runId}/${tab}`;
      await take(browser, page, { height, text }, name);
    }
    const query = encodeURIComponent('ImageName = "ubuntu-26.04.raw"');
    const found = { height: 420, text: "image-import/" };
    await take(browser, `${workflows}?query=${query}`, found, "list");
  } finally {
    await connection.close();
    await browser.close();
    await client.close();
  }
}

/**
 * @param {Browser} browser @param {string} url @param {{ height: number, text: string }} page
 * @param {string} name
 */
async function take(browser, url, { height, text }, name) {
  const file = join(PACKAGE_ROOT, `docs/web-ui-${name}.png`);
  await writeFile(file, await browser.picture(url, { width: 1440, height, text }));
  const smaller = ["--force", "--skip-if-larger", "--output", file, "48", file];
  await promisify(execFile)("pngquant", smaller).catch(() => undefined);
  say(`  ${file}  ${(await stat(file)).size} bytes`);
}

/** @param {Client} client @param {string} name @param {number} sizeBytes */
async function started(client, name, sizeBytes) {
  const { id } = await client.images.create({ name, diskFormat: "raw", containerFormat: "bare" });
  const { path } = await client.files.stage(id, Readable.from(random(sizeBytes)));
  await client.imports.start(id, { stores: ["local", "archive"], imageName: name });
  return { id, path };
}

/** @param {number} sizeBytes */
function* random(sizeBytes) {
  for (let done = 0; done < sizeBytes; done += MIB) yield randomBytes(MIB);
}

/**
 * Waits until the copy in `local` is complete and the copy in `archive` has begun.
 *
 * @param {Client} client
 * @param {string} imageId
 */
async function inTheMiddle(client, imageId) {
  for (;;) {
    const { local, archive } = (await client.imports.status(imageId)).stores;
    if (local?.state === "stored" && (archive?.done_bytes ?? 0) > 0) return;
    await sleep(50);
  }
}
