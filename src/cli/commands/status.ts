import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import type { ImageImportClient } from "../../client/image-import-client.ts";
import { failureOfImport } from "../../client/import-report.ts";
import { ImportError, UnlistedFailure } from "../../domain/import-failure.ts";
import { imagesArgument, optionalImageArgument } from "../arguments.ts";
import { onEachImage } from "../each-image.ts";
import { followImport } from "../follow-import.ts";
import { LEFT_EXIT_CODE, UsageError } from "../failure.ts";
import { Interruption } from "../interruption.ts";
import { goesOn, hasFailed, reportFields } from "../import-report-fields.ts";
import { inSession, type Session } from "../session.ts";
import { ShownImport } from "../shown-import.ts";
import { watchAll } from "../watch-all.ts";

/** `status` and `watch`: the newest import of an image. */
export function addStatusCommands(program: Command): void {
  program
    .command("status")
    .addArgument(imagesArgument())
    .description("show the newest import of an image, with live detail while it runs")
    .action(inSession(status));
  program
    .command("watch")
    .addArgument(optionalImageArgument())
    .description(
      "follow the newest import of an image until it has ended; without an image: all that run",
    )
    .action(inSession(watch));
}

async function status(session: Session, references: readonly string[]): Promise<void> {
  const client = await session.client();
  const page = await session.page();
  await onEachImage(session, client, references, {
    work: (imageId) => client.imports.report(imageId),
    text: (report) => reportFields(report, { ...page, nowMs: Date.now() }),
  });
}

/**
 * Ends as the import ends: with exit code 1 when it failed, was refused or was left without an
 * undo.
 */
async function watch(session: Session, reference: string | undefined): Promise<void> {
  const client = await session.client();
  if (reference === undefined) {
    await watchRunning(session, client);
    return;
  }
  const imageId = await client.images.resolve(reference);
  using interruption = new Interruption();
  const { signal } = interruption;
  const observer = new ShownImport(session.progress);
  let report = await client.imports.report(imageId);
  while (goesOn(report)) {
    const run = { image_id: imageId, run_id: report.run_id ?? "" };
    // The end is read from the record, which outlives the run.
    const followed = await followImport(client, run, { observer, signal }).catch(
      (error: unknown) => {
        if (error instanceof ImportError || error instanceof UnlistedFailure) return undefined;
        throw error;
      },
    );
    report = await client.imports.report(imageId);
    if (followed?.kind === "left") {
      if (goesOn(report)) process.exitCode = LEFT_EXIT_CODE;
      break;
    }
    if (goesOn(report)) await sleep(BETWEEN_RUNS_MS);
  }
  if (hasFailed(report)) throw failureOfImport(report);
  const page = await session.page();
  session.answer(report, () => reportFields(report, page));
}

// Another run continues, or Temporal is unreachable; neither has news at once.
const BETWEEN_RUNS_MS = 500;

/** Follows all imports that run, until the user leaves. */
async function watchRunning(session: Session, client: ImageImportClient): Promise<void> {
  if (session.isJson) {
    throw new UsageError(
      "`watch` without an image never ends with one answer, as --json needs it",
      "Name an image, or leave out --json.",
    );
  }
  using interruption = new Interruption();
  await watchAll(client, {
    observerOf: ({ image_id: id, name }) => new ShownImport(session.progress, name ?? id),
    onIdle: () => {
      session.progress.note("No import runs; waiting for the next one");
    },
    signal: interruption.signal,
  });
}
