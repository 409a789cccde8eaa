import { randomUUID } from "node:crypto";
import type { ImportRig } from "./import-rig.ts";

/**
 * Resets the newest run of an image's import, as `temporal workflow reset` does, to one of its
 * workflow tasks.
 */
export async function resetRun(
  rig: ImportRig,
  imageId: string,
  to: "first" | "last",
): Promise<void> {
  const handle = rig.run(imageId);
  const { workflowId, runId } = await handle.describe();
  const { events } = await handle.fetchHistory();
  const tasks = (events ?? []).filter(
    (event) => event.workflowTaskCompletedEventAttributes != null,
  );
  const task = to === "first" ? tasks[0] : tasks.at(-1);
  await rig.temporal.workflowService.resetWorkflowExecution({
    namespace: rig.namespace,
    workflowExecution: { workflowId, runId },
    workflowTaskFinishEventId: task?.eventId ?? null,
    requestId: randomUUID(),
    reason: "tried",
  });
}
