import { proxyActivities } from "@temporalio/workflow";

/** @type {{ doNothing: () => Promise<void> }} */
const { doNothing } = proxyActivities({ startToCloseTimeout: "30s" });

export async function threeEmptySteps() {
  for (let step = 0; step < 3; step += 1) await doNothing();
}
