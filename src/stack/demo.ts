import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { detectFormat } from "../client/detect-format.ts";
import { ImageImportClient } from "../client/image-import-client.ts";
import type { ImageView } from "../client/image-view.ts";
import { readConfig } from "../config/config.ts";
import { dataDirOf } from "../config/locate.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { formatDuration } from "../domain/duration.ts";
import { IMPORT_FAILURES, ImportError } from "../domain/import-failure.ts";
import { importWorkflowId, type ImportStatus } from "../workflow/contract.ts";
import type { NameLock } from "../processes/name-lock.ts";
import { tryToTakeDemoTurn } from "./data-directory-lock.ts";
import { openDataDirectory } from "./data-directory.ts";
import { writeDemoDisk } from "./demo-disk.ts";
import { whileSaying } from "./progress.ts";
import { StackError } from "./stack-error.ts";
import { useOrStartStack, type UsableStack } from "./use-or-start-stack.ts";

const USAGE = `Usage: npm run demo [-- [--data-dir DIR] [--keep] [FILE]]

Starts everything, imports FILE (default: a disk image of 256 MiB that it makes), reads the stored image back and
compares its digest. The image is removed at the end; --keep keeps it. A stack that runs on the data directory is used,
and left running.
`;

interface DemoOptions {
  /** Undefined: one that the demo makes. */
  readonly file: string | undefined;
  readonly dataDir: string;
  readonly keepsImage: boolean;
}

process.exitCode = await demo();

/** @returns the exit code: 0 done, 1 failed, 2 wrong use, 3 no such file */
async function demo(): Promise<number> {
  let options: DemoOptions | undefined;
  try {
    options = readOptions();
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    return 2;
  }
  if (options === undefined) {
    say(USAGE);
    return 0;
  }
  const interruption = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      interruption.abort();
    });
  }
  // The reader of a pipe may be gone before the demo, whose servers have to be stopped all the
  // same.
  process.stdout.on("error", () => undefined);
  try {
    // Before anything is started: a file that is not there needs no stack.
    if (options.file !== undefined) await detectFormat(options.file);
    const turn = await waitForTurn(options.dataDir, interruption.signal);
    try {
      await runOnStack(options, interruption.signal);
    } finally {
      await turn.release();
    }
    return 0;
  } catch (error) {
    if (!(error instanceof ImportError) && !(error instanceof StackError)) {
      if (!interruption.signal.aborted) throw error;
      process.stderr.write("error: The demo was interrupted\n");
      return IMPORT_FAILURES.Interrupted.exitCode;
    }
    process.stderr.write(`error: ${error.message}\n`);
    if (error instanceof ImportError) process.stderr.write(`${error.hint}\n`);
    return error instanceof ImportError ? IMPORT_FAILURES[error.code].exitCode : 1;
  }
}

async function waitForTurn(dataDir: string, signal: AbortSignal): Promise<NameLock> {
  const { path } = openDataDirectory(dataDir);
  return whileSaying(say, `waiting for another demo on ${path}`, async () => {
    for (;;) {
      const turn = await tryToTakeDemoTurn(path);
      if (turn !== undefined) return turn;
      requireUninterrupted(signal);
      await sleep(200);
    }
  });
}

async function runOnStack(options: DemoOptions, signal: AbortSignal): Promise<void> {
  const { dataDir } = options;
  const temporalCli = process.env["TEMPORAL_CLI"] ?? "temporal";
  const stack = await timed("starting", () =>
    useOrStartStack({ dataDir, temporalCli, log: say, signal }),
  );
  try {
    await importAndCompare(stack, options, signal);
  } finally {
    await whileSaying(say, "stopping", async () => stack.stop());
  }
}

/** @returns undefined when only the usage is asked for */
function readOptions(): DemoOptions | undefined {
  const { values, positionals } = parseArgs({
    options: {
      "data-dir": { type: "string" },
      keep: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
    allowPositionals: true,
  });
  if (values.help) return undefined;
  if (positionals.length > 1) throw new Error("One FILE at most");
  const dataDir = dataDirOf(values["data-dir"]);
  return { file: positionals[0], dataDir, keepsImage: values.keep };
}

async function importAndCompare(
  { addresses }: UsableStack,
  options: DemoOptions,
  signal: AbortSignal,
): Promise<void> {
  const { file: given } = options;
  const client = await ImageImportClient.connect({
    temporal: { address: addresses.temporal_address, namespace: addresses.temporal_namespace },
    databaseUrl: addresses.database_url,
    config: readConfig(addresses.config),
  });
  const scratch = await mkdtemp(join(tmpdir(), "image-import-demo-"));
  try {
    const file = given ?? join(scratch, "demo-disk.raw");
    if (given === undefined) await timed("making a disk image", () => writeDemoDisk(file));
    const diskFormat = await detectFormat(file);
    const { id } = await client.images.create({
      name: basename(file),
      diskFormat,
      containerFormat: "bare",
    });
    try {
      await importFile(client, id, addresses.web_ui, file, signal);
    } finally {
      await removeImage(client, id, options);
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
    await client.close();
  }
}

async function importFile(
  client: ImageImportClient,
  id: string,
  webUi: string,
  file: string,
  signal: AbortSignal,
): Promise<void> {
  const stagedAtMs = Date.now();
  let staged = "";
  const report = (doneBytes: number, totalBytes?: number): void => {
    staged = `, ${formatBytes(doneBytes)} of ${formatBytes(totalBytes ?? doneBytes)}`;
  };
  await timed(
    "staging",
    () => client.files.stage(id, file, { signal, report }),
    () => staged,
  );
  const stagingMs = Date.now() - stagedAtMs;
  const { run_id } = await client.imports.start(id);
  const status = await follow(client, id, signal);
  await client.imports.wait(id, run_id);
  const locations = await timed("reading back", () => client.files.verify(id));
  const wrong = locations.filter((location) => !location.ok);
  if (wrong.length > 0 || locations.length === 0) {
    throw new ImportError(
      "DigestMismatch",
      `The stored image differs: ${wrong.map((each) => `${each.store}: ${each.reason ?? ""}`).join(", ")}`,
    );
  }
  const image = await client.images.show(id);
  const run = `${webUi}/namespaces/default/workflows/${encodeURIComponent(importWorkflowId(id))}/${run_id}/history`;
  say(table(image, status, { stagingMs, runId: run_id, run }));
}

/**
 * Removes what the demo has brought, also when it has failed; an import that goes on is cancelled
 * by that.
 */
async function removeImage(
  client: ImageImportClient,
  id: string,
  { dataDir, keepsImage }: DemoOptions,
): Promise<void> {
  const environment =
    dataDir === dataDirOf(undefined, {}) ? "" : `IMAGE_IMPORT_DATA_DIR=${dataDir} `;
  const stays = `\nThe image stays. To remove it, while \`npm start\` runs: ${environment}npx image-import image delete ${id}`;
  if (keepsImage) {
    say(stays);
    return;
  }
  try {
    await whileSaying(say, "removing the image", async () => client.images.delete(id));
    say("\nThe image is removed again; `npm run demo -- --keep` keeps it.");
  } catch (error) {
    say(stays);
    process.stderr.write(
      `Cannot remove the image ${id}: ${error instanceof Error ? error.message : String(error)}\n`,
    );
  }
}

/** Says each phase as it ends, and the bytes of a long one. */
async function follow(
  client: ImageImportClient,
  imageId: string,
  signal: AbortSignal,
): Promise<ImportStatus> {
  let saidPhases = 0;
  let last: ImportStatus | undefined;
  const now = (): string => (last === undefined ? "accepting" : progressOf(last));
  await whileSaying(say, now, async () => {
    for await (const status of client.imports.watch(imageId, 200)) {
      requireUninterrupted(signal);
      last = status;
      const ended = status.phases.filter((phase) => phase.ended_at !== null);
      for (const phase of ended.slice(saidPhases)) {
        const tookMs = Date.parse(phase.ended_at ?? "") - Date.parse(phase.started_at);
        if (tookMs > 0) say(`  ${phase.phase.padEnd(20)} ${formatDuration(tookMs)}`);
      }
      saidPhases = ended.length;
    }
  });
  if (last === undefined) throw new ImportError("ImportNotFound", "The import cannot be followed");
  return last;
}

function requireUninterrupted(signal: AbortSignal): void {
  if (signal.aborted) throw new ImportError("Interrupted", "The demo was interrupted");
}

function progressOf({ phase, stores, size }: ImportStatus): string {
  const copies = Object.entries(stores).flatMap(([store, { done_bytes }]) =>
    done_bytes === undefined || size === null || phase !== "storing"
      ? []
      : [`${store} ${formatBytes(done_bytes)} of ${formatBytes(size)}`],
  );
  return [phase, ...copies].join(", ");
}

/** @param detail - how far it is, for the lines that come while it lasts */
async function timed<T>(
  phase: string,
  work: () => Promise<T>,
  detail: () => string = () => "",
): Promise<T> {
  const startedAtMs = Date.now();
  const result = await whileSaying(say, () => `${phase}${detail()}`, work);
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
