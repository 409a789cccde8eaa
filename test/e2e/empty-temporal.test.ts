import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { Client, Connection } from "@temporalio/client";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { openDataDirectory } from "../../src/stack/data-directory.ts";
import { hasReconcilerSchedule } from "../../src/temporal/reconcile-schedule.ts";
import { missingSearchAttributes } from "../../src/temporal/search-attributes.ts";
import { writeRandomFile } from "../support/disk-images.ts";
import { waitForPart } from "../support/growing-part.ts";
import { MIB } from "../support/mib.ts";
import { useRunningStack } from "../support/running-stack.ts";
import { Service } from "../support/service.ts";
import { waitForStandstill } from "../support/standstill.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { startTemporalWithoutSchedules } from "../support/temporal-without-schedules.ts";

const PATIENCE = { timeout: 120_000, interval: 100 };

const IMAGE_BYTES = 4 * MIB;

const stack = useRunningStack({
  mayHold: true,
  config: {
    stores: { fast: { zero_copy: false }, slow: { zero_copy: false } },
    import: { heartbeat_timeout: "3s" },
    reconcile_every: "5s",
  },
});

/** Lets Temporal's server come back without its data, while everything else lives. */
async function loseTemporal(): Promise<void> {
  const { pid } = stack.file.supervisor;
  process.kill(pid, "SIGSTOP");
  await waitForStandstill(pid);
  await stack.kill("temporal");
  const database = openDataDirectory(stack.dataDir).temporalDatabase;
  for (const suffix of ["", "-wal", "-shm"]) rmSync(`${database}${suffix}`, { force: true });
  process.kill(pid, "SIGCONT");
}

async function connect(): Promise<Client> {
  const connection = await Connection.connect({ address: stack.file.temporal_address });
  onTestFinished(() => connection.close());
  return new Client({ connection });
}

describe("a worker whose Temporal server comes back without its data", () => {
  it("makes the Schedule and the search attributes again, and releases what lost runs held", async () => {
    const worker = stack.pidOf("worker");
    const path = join(makeTemporaryDirectory(), "disk.raw");
    const imageId = randomUUID();
    await writeRandomFile(path, IMAGE_BYTES);
    stack.holds.hold("slow", imageId);
    const importing = stack.commandLine.start("import", path, "--id", imageId, "--store", "slow");
    await waitForPart(stack.store("slow"), imageId, 1);
    await importing.kill();
    await loseTemporal();

    await vi.waitUntil(async () => {
      const { isClaimed, leases } = await stack.traces(imageId);
      return !isClaimed && leases.length === 0;
    }, PATIENCE);
    const temporal = await connect();
    const undone = await stack.traces(imageId);
    const again = await stack.commandLine.json("start", imageId, "--store", "fast", "--wait");

    expect(await hasReconcilerSchedule(temporal)).toBe(true);
    expect(await missingSearchAttributes(temporal.connection, "default")).toEqual([]);
    expect(undone).toMatchObject({
      image: "uploading",
      locations: [],
      staging: ["@"],
      stores: { fast: [], slow: [] },
    });
    expect(again).toMatchObject({ exitCode: 0, answer: { status: "active" } });
    expect(await stack.traces(imageId)).toMatchObject({ locations: ["fast active"], leases: [] });
    expect(stack.pidOf("worker")).toBe(worker);
  });
});

describe("a worker whose Temporal server takes no Schedules", () => {
  it("starts the reconciler by its own clock", async () => {
    const service = await Service.open({
      stores: { slow: {} },
      more: { import: { heartbeat_timeout: "3s" }, reconcile_every: "2s" },
      temporalAddress: await startTemporalWithoutSchedules(),
    });
    await service.startWorker();
    const imageId = await service.stagedImage(IMAGE_BYTES);
    service.holds.hold("slow", imageId);
    await service.client.imports.start(imageId);
    await waitForPart(service.store("slow"), imageId, 1);
    await service.run(imageId).terminate();

    await vi.waitUntil(async () => {
      const { isClaimed, leases } = await service.traces(imageId);
      return !isClaimed && leases.length === 0;
    }, PATIENCE);

    await expect(hasReconcilerSchedule(service.temporal)).rejects.toThrow();
    expect(await service.traces(imageId)).toMatchObject({
      image: "uploading",
      locations: [],
      stores: { slow: [] },
    });
  });
});
