import type { Connection } from "@temporalio/client";

/**
 * The time for which the namespace keeps a run after its end, in ms; undefined if the server does
 * not report it.
 */
export async function runRetentionOf(
  connection: Connection,
  namespace: string,
): Promise<number | undefined> {
  const { config } = await connection.workflowService.describeNamespace({ namespace });
  const seconds = config?.workflowExecutionRetentionTtl?.seconds;
  return seconds == null ? undefined : Number(seconds) * 1000;
}

/**
 * Sets the time for which the namespace keeps a run after its end. Needs the permission to change
 * the namespace.
 */
export async function setRunRetention(
  connection: Connection,
  namespace: string,
  retentionMs: number,
): Promise<void> {
  await connection.workflowService.updateNamespace({
    namespace,
    // protobuf.js takes a number where its types want its own 64-bit integer.
    config: { workflowExecutionRetentionTtl: { seconds: Math.ceil(retentionMs / 1000) as never } },
  });
}
