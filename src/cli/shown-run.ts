import type { Answering } from "./session.ts";

/** Names the run of an import and its address in the Web UI, with `--verbose`. */
export async function showRun(
  { page, progress }: Pick<Answering, "page" | "progress">,
  { image_id: imageId, run_id: runId }: { readonly image_id: string; readonly run_id: string },
): Promise<void> {
  const { linkOf } = await page();
  progress.detail(["run", runId, linkOf(imageId, runId)].filter(Boolean).join(" "));
}
