import type { Service } from "../client/service.ts";
import { sleep } from "../client/sleep.ts";
import type { ImportReport } from "../client/import-report.ts";
import { ImportError, UnlistedFailure } from "../domain/import-failure.ts";
import { followImport } from "./follow-import.ts";
import { continues } from "./import-report-fields.ts";
import type { Answering } from "./session.ts";
import { showRun } from "./shown-run.ts";
import { untilLeft } from "./until-left.ts";

// Another run of the import continues, or Temporal is unreachable: in both cases a new
// state takes a moment.
const BETWEEN_RUNS_MS = 500;

/**
 * Shows the newest import of an image until it has ended or the user has left, and returns the last
 * report.
 *
 * @throws ImportError `Interrupted` if the user leaves before the first report
 */
export async function followReport(
  session: Pick<Answering, "about" | "page" | "progress">,
  client: Service,
  { imageId, signal }: { readonly imageId: string; readonly signal: AbortSignal },
): Promise<ImportReport> {
  const observer = session.progress.follow();
  const first = await untilLeft(client.imports.report(imageId), signal);
  if (first === undefined) {
    throw new ImportError(
      "Interrupted",
      `Cannot show image "${imageId}": the service did not answer before the command was ended`,
      {
        hint: "Run the command again: it changes nothing.",
      },
    );
  }
  let report = first;
  aboutReport(session, report);
  while (continues(report)) {
    const run = { image_id: imageId, run_id: report.run_id ?? "" };
    await showRun(session, run);
    // The end is read from the record, which outlives the run.
    const followed = await followImport(client, run, { observer, signal }).catch(
      (error: unknown) => {
        if (error instanceof ImportError || error instanceof UnlistedFailure) return undefined;
        throw error;
      },
    );
    report = (await untilLeft(client.imports.report(imageId), signal)) ?? report;
    aboutReport(session, report);
    if (followed?.kind === "left" || signal.aborted) return report;
    if (continues(report)) await sleep(BETWEEN_RUNS_MS, signal);
  }
  return report;
}

function aboutReport(session: Pick<Answering, "about">, report: ImportReport): void {
  const { image_id: imageId, run_id: runId, task, live } = report;
  session.about({
    image_id: imageId,
    run_id: runId ?? undefined,
    task_id: task?.id ?? live?.task_id ?? undefined,
  });
}
