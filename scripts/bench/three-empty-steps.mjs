import { fileURLToPath } from "node:url";
import {
  bundleWorkflowCode,
  DefaultLogger,
  NativeConnection,
  Runtime,
  Worker,
} from "@temporalio/worker";

const QUEUE = "bench-three-empty-steps";

/**
 * Runs a worker for a workflow of three activities that do nothing: the time that the server and
 * the SDK take.
 *
 * @param {import("./service.mjs").Service} service
 */
export async function openEmptySteps({ temporal, stack }) {
  const logger = new DefaultLogger("ERROR");
  Runtime.install({ logger });
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL("three-empty-steps-workflow.mjs", import.meta.url)),
    logger,
  });
  const connection = await NativeConnection.connect({ address: stack.addresses.temporal_address });
  const activities = { doNothing: async () => undefined };
  const worker = await Worker.create({ connection, taskQueue: QUEUE, workflowBundle, activities });
  const running = worker.run();
  let count = 0;
  return {
    async run() {
      count += 1;
      const workflowId = `${QUEUE}-${process.pid}-${count}`;
      await temporal.workflow.execute("threeEmptySteps", { workflowId, taskQueue: QUEUE });
    },
    async close() {
      worker.shutdown();
      await running;
      await connection.close();
    },
  };
}
