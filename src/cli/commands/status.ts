import type { Command } from "commander";
import type { Service } from "../../client/service.ts";
import { failureOfImport, type ImportReport } from "../../client/import-report.ts";
import { addJsonLines, imagesArgument, optionalImageArgument } from "../arguments.ts";
import { onEachImage } from "../each-image.ts";
import { UsageError } from "../failure.ts";
import { followReport } from "../follow-report.ts";
import { endOf, hasFailed, reportFields } from "../import-report-fields.ts";
import { Interruption } from "../interruption.ts";
import { namedImage } from "../named-image.ts";
import { OwnLabels } from "../own-labels.ts";
import { inSession, type Answering, type Session } from "../session.ts";
import { watchAll } from "../watch-all.ts";

/** `status` and `watch`: the newest import of an image. */
export function addStatusCommands(program: Command): void {
  const statusCommand = program
    .command("status")
    .addArgument(imagesArgument())
    .description("show the newest import of an image, with live detail while it runs")
    .option("--watch", "follow the imports until all have ended, and show their end")
    .action(inSession(status));
  addJsonLines(statusCommand);
  const watchCommand = program
    .command("watch")
    .addArgument(optionalImageArgument())
    .description(
      "follow the newest import of an image until it has ended; without an image: all that run",
    )
    .action(inSession(watch));
  addJsonLines(watchCommand);
}

async function status(
  session: Session,
  references: readonly string[],
  { watch: isWatch = false }: { readonly watch?: boolean },
): Promise<void> {
  const client = await session.service();
  const page = await session.page();
  const text = (report: ImportReport): string =>
    reportFields(report, { ...page, nowMs: Date.now() });
  if (!isWatch && !session.isJsonLines) {
    const work = (imageId: string) => client.imports.report(imageId);
    await onEachImage(session, client, references, { work, text });
    return;
  }
  using interruption = new Interruption({ onlyShows: true });
  const { signal } = interruption;
  const work = async (imageId: string, part: Answering): Promise<ImportReport> => {
    return followReport(part, client, { imageId, signal });
  };
  await onEachImage(session, client, references, { work, text, endOf, atOnce: Infinity });
}

/**
 * Follows one import, or all. If the one has failed, was refused or ended without an undo, this
 * throws its failure, which sets the exit code.
 */
async function watch(session: Session, reference: string | undefined): Promise<void> {
  const client = await session.service();
  if (reference === undefined) {
    await watchRunning(session, client);
    return;
  }
  const imageId = await namedImage(session, client, reference);
  using interruption = new Interruption({ onlyShows: true });
  const { signal } = interruption;
  const report = await followReport(session, client, { imageId, signal });
  if (hasFailed(report)) throw failureOfImport(report);
  const page = await session.page();
  session.answer(report, () => reportFields(report, page), endOf(report));
}

/** Follows all imports that run, until the user leaves. */
async function watchRunning(session: Session, client: Service): Promise<void> {
  if (session.isJson) {
    throw new UsageError(
      "`watch` without an image never ends with one answer, as --json needs it",
      "Name an image, or give --json-lines instead of --json.",
    );
  }
  using interruption = new Interruption({ onlyShows: true });
  const labels = new OwnLabels();
  await watchAll(client, {
    displayOf: ({ image_id: id, run_id: runId, name }) => {
      const named = name === null ? [] : [name, `${name} (${id})`];
      const label = labels.take(...named, id, `${id} (run ${runId})`);
      return session.progress.part({ label, subject: { image_id: id, run_id: runId } });
    },
    onAway: (message) => {
      session.progress.note(`${message}; the imports continue`);
    },
    onIdle: () => {
      session.progress.note("No import runs; waiting for the next one");
    },
    signal: interruption.signal,
  });
  session.progress.event({ event: "left" });
}
