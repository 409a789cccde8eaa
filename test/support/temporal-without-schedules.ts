import { rmSync } from "node:fs";
import { join } from "node:path";
import { inject, onTestFinished } from "vitest";
import { findFreePort } from "../../src/stack/ports.ts";
import { Program, waitUntilReady } from "../../src/stack/program.ts";
import { isTemporalReady } from "../../src/stack/temporal-server.ts";
import { makeServicesDirectory, markOf } from "./services-directory.ts";

/**
 * Starts a Temporal development server whose operator has turned Schedules off. It goes with the
 * running test.
 *
 * @returns host and port
 */
export async function startTemporalWithoutSchedules(): Promise<string> {
  const directory = makeServicesDirectory();
  const port = await findFreePort();
  const program = new Program({
    name: "temporal",
    command: [
      inject("temporalCli"),
      ...["server", "start-dev", "--headless", "--ip", "127.0.0.1", "--log-level", "warn"],
      ...["--port", String(port)],
      ...["--dynamic-config-value", "frontend.enableSchedules=false"],
    ],
    env: { ...process.env, ...markOf(directory) },
    logFile: join(directory, "temporal.log"),
    stop: { signal: "SIGTERM", withinMs: 10_000 },
  });
  onTestFinished(async () => {
    await program.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  const address = `127.0.0.1:${String(port)}`;
  await waitUntilReady(program, async () => isTemporalReady(address));
  return address;
}
