import { proxyActivities } from "@temporalio/workflow";

const { doNothing } = proxyActivities({ startToCloseTimeout: "30s" });

export async function threeEmptySteps() {
  for (let step = 0; step < 3; step += 1) await doNothing();
}
