import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { detectFormat } from "../client/detect-format.ts";
import { ImageImportClient } from "../client/image-import-client.ts";
import type { ImageView } from "../client/image-view.ts";
import { readConfig } from "../config/config.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { formatDuration } from "../domain/duration.ts";
import { IMPORT_FAILURES, ImportError } from "../domain/import-failure.ts";
import { importWorkflowId, type ImportStatus } from "../workflow/contract.ts";
import { writeDemoDisk } from "./demo-disk.ts";
import { StackError } from "./stack-error.ts";
import { useOrStartStack, type UsableStack } from "./use-or-start-stack.ts";

const USAGE = `Usage: npm run demo [-- [--data-dir DIR] [FILE]]

Starts everything, imports FILE (default: a disk image of 256 MiB that it makes), reads the stored image back and
compares its digest. A stack that runs on the data directory is used, and left running.
`;

const DEFAULT_DATA_DIR = fileURLToPath(new URL("../../.image-import", import.meta.url));

process.exitCode = await demo();

/** @returns the exit code: 0 done, 1 failed, 2 wrong use, 3 no such file */
async function demo(): Promise<number> {
  let options: { readonly file: string | undefined; readonly dataDir: string };
  try {
    options = readOptions();
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    return 2;
  }
  const interruption = new AbortController();
  process.once("SIGINT", () => {
    interruption.abort();
  });
  try {
    // Before anything is started: a file that is not there needs no stack.
    if (options.file !== undefined) await detectFormat(options.file);
    const temporalCli = process.env["TEMPORAL_CLI"] ?? "temporal";
    const stack = await timed("starting", () =>
      useOrStartStack({
        dataDir: options.dataDir,
        temporalCli,
        log: say,
        signal: interruption.signal,
      }),
    );
    try {
      await importAndCompare(stack, options.file, interruption.signal);
    } finally {
      await stack.stop();
    }
    return 0;
  } catch (error) {
    if (!(error instanceof ImportError) && !(error instanceof StackError)) throw error;
    process.stderr.write(`error: ${error.message}\n`);
    if (error instanceof ImportError) process.stderr.write(`${error.hint}\n`);
    return error instanceof ImportError ? IMPORT_FAILURES[error.code].exitCode : 1;
  }
}

function readOptions(): { readonly file: string | undefined; readonly dataDir: string } {
  const { values, positionals } = parseArgs({
    options: { "data-dir": { type: "string" } },
    allowPositionals: true,
  });
  if (positionals.length > 1) throw new Error("One FILE at most");
  const dataDir = values["data-dir"] ?? process.env["IMAGE_IMPORT_DATA_DIR"] ?? DEFAULT_DATA_DIR;
  return { file: positionals[0], dataDir: resolve(dataDir) };
}

async function importAndCompare(
  stack: UsableStack,
  given: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const { addresses } = stack;
  const client = await ImageImportClient.connect({
    temporal: { address: addresses.temporal_address, namespace: addresses.temporal_namespace },
    databaseUrl: addresses.database_url,
    config: readConfig(addresses.config),
  });
  const scratch = await mkdtemp(join(tmpdir(), "image-import-demo-"));
  try {
    const file = given ?? join(scratch, "demo-disk.raw");
    if (given === undefined) await timed("making a disk image", () => writeDemoDisk(file));
    await importFile(client, addresses.web_ui, file, signal);
  } finally {
    await rm(scratch, { recursive: true, force: true });
    await client.close();
  }
}

async function importFile(
  client: ImageImportClient,
  webUi: string,
  file: string,
  signal: AbortSignal,
): Promise<void> {
  const diskFormat = await detectFormat(file);
  const { id } = await client.createImage({
    name: basename(file),
    diskFormat,
    containerFormat: "bare",
  });
  const stagedAtMs = Date.now();
  await timed("staging", () => client.stageImage(id, file, { signal }));
  const stagingMs = Date.now() - stagedAtMs;
  const { run_id } = await client.startImport(id);
  const status = await follow(client, id);
  await client.waitForImport(id, run_id);
  const locations = await timed("reading back", () => client.verifyImage(id));
  const wrong = locations.filter((location) => !location.ok);
  if (wrong.length > 0 || locations.length === 0) {
    throw new ImportError(
      "DigestMismatch",
      `The stored image differs: ${wrong.map((each) => `${each.store}: ${each.reason ?? ""}`).join(", ")}`,
    );
  }
  const image = await client.showImage(id);
  const run = `${webUi}/namespaces/default/workflows/${encodeURIComponent(importWorkflowId(id))}/${run_id}/history`;
  say(table(image, status, { stagingMs, runId: run_id, run }));
}

/** Tells each phase as it ends, and the bytes of a long one. */
async function follow(client: ImageImportClient, imageId: string): Promise<ImportStatus> {
  let told = 0;
  let last: ImportStatus | undefined;
  for await (const status of client.watchImport(imageId, 200)) {
    last = status;
    const ended = status.phases.filter((phase) => phase.ended_at !== null);
    for (const phase of ended.slice(told)) {
      const tookMs = Date.parse(phase.ended_at ?? "") - Date.parse(phase.started_at);
      if (tookMs > 0) say(`  ${phase.phase.padEnd(20)} ${formatDuration(tookMs)}`);
    }
    told = ended.length;
    for (const [store, { done_bytes }] of Object.entries(status.stores)) {
      if (done_bytes === undefined || status.size === null || status.phase !== "storing") continue;
      say(`  copying to ${store}: ${formatBytes(done_bytes)} of ${formatBytes(status.size)}`);
    }
  }
  if (last === undefined) throw new ImportError("ImportNotFound", "The import cannot be followed");
  return last;
}

async function timed<T>(phase: string, work: () => Promise<T>): Promise<T> {
  const startedAtMs = Date.now();
  const result = await work();
  say(`  ${phase.padEnd(20)} ${formatDuration(Date.now() - startedAtMs)}`);
  return result;
}

function table(
  image: ImageView,
  status: ImportStatus,
  {
    stagingMs,
    runId,
    run,
  }: { readonly stagingMs: number; readonly runId: string; readonly run: string },
): string {
  const phases = status.phases
    .filter((phase) => phase.ended_at !== null && phase.phase !== "done")
    .map((phase) => {
      const tookMs = Date.parse(phase.ended_at ?? "") - Date.parse(phase.started_at);
      return `${phase.phase} ${formatDuration(tookMs)}`;
    });
  const rows: [string, string][] = [
    ["image", `${image.id} (${image.name ?? ""})`],
    ["status", image.status],
    ["format", `${image.disk_format ?? ""}, ${image.container_format ?? ""}`],
    ["size", `${String(image.size)} bytes (${formatBytes(image.size ?? 0)})`],
    ["md5", image.checksum ?? ""],
    [image.os_hash_algo ?? "", image.os_hash_value ?? ""],
    ...image.locations.map(({ store, url }): [string, string] => [`store ${store}`, url]),
    ["phases", [`staging ${formatDuration(stagingMs)}`, ...phases].join(", ")],
    ["run", runId],
    ["Web UI", `${run} (while \`npm start\` runs)`],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return ["", ...rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`)].join("\n");
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
