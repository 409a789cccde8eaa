import { MockActivityEnvironment } from "@temporalio/testing";
import { DefaultLogger } from "@temporalio/worker";

/**
 * Runs a step as an activity, silently.
 *
 * @template Result
 * @param {() => Promise<Result>} step
 */
export async function runActivity(step) {
  const environment = new MockActivityEnvironment({}, { logger: new DefaultLogger("ERROR") });
  return environment.run(step);
}
