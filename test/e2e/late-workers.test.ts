import { randomBytes } from "node:crypto";
import { eq } from "drizzle-orm";
import { describe, expect, it, vi } from "vitest";
import { leases } from "../../src/db/schema.ts";
import { storeAt, type Place } from "../../src/domain/place.ts";
import { waitForPart } from "../support/growing-part.ts";
import { beginAnswer, HostileOrigin, type Behaviour } from "../support/hostile-origin.ts";
import { MIB } from "../support/mib.ts";
import { Service } from "../support/service.ts";
import type { WorkerProcess } from "../support/worker-process.ts";

const IMAGE_BYTES = 6 * MIB;
const COPIES = 4;

// The server may give a task to a poll that a worker left open when it stood still, until that
// poll ends after a minute; the next attempt begins up to half a minute later.
const PATIENCE = { timeout: 150_000, interval: 20 };

/** An origin that stops in the middle of its answers until the test lets it continue. */
async function openHoldingOrigin() {
  const bytes = randomBytes(IMAGE_BYTES);
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const holding: Behaviour = async (exchange) => {
    const start = beginAnswer(exchange, bytes);
    const middle = Math.max(start, IMAGE_BYTES / 2);
    await exchange.send(bytes.subarray(start, middle));
    await Promise.race([released, exchange.gone()]);
    await exchange.send(bytes.subarray(middle));
  };
  return { origin: await HostileOrigin.start(holding), release };
}

/** The processes that write copies, or downloads, now. */
async function writersOf({
  database,
}: Service): Promise<{ copies: number[]; downloads: number[] }> {
  const writing = await database.query((db) =>
    db.select().from(leases).where(eq(leases.state, "writing")),
  );
  const pidsAt = (isThere: (place: Place) => boolean) =>
    writing.filter(({ place }) => isThere(place)).map(({ writer }) => writer.pid);
  return {
    copies: pidsAt((place) => storeAt(place) !== undefined),
    downloads: pidsAt((place) => place === "download"),
  };
}

/** Waits until a worker writes all copies and the download. */
async function awaitWriter(service: Service, { pid }: WorkerProcess): Promise<void> {
  await vi.waitFor(async () => {
    const { copies, downloads } = await writersOf(service);
    expect(copies).toEqual(Array.from({ length: COPIES }, () => pid));
    expect(downloads).toEqual([pid]);
  }, PATIENCE);
}

/**
 * Waits until a worker that stands still writes nothing any more: another one writes each file, or
 * has finished it.
 */
async function awaitTakeOver(service: Service, { pid }: WorkerProcess): Promise<void> {
  await vi.waitFor(async () => {
    const { copies, downloads } = await writersOf(service);
    expect([...copies, ...downloads]).not.toContain(pid);
  }, PATIENCE);
}

describe("a worker that stands still until another worker has taken its imports over", () => {
  it("ends none of them when it continues", async () => {
    const { origin, release } = await openHoldingOrigin();
    const service = await Service.open({
      stores: { slow: {}, fast: {} },
      more: {
        import: { heartbeat_timeout: "3s", slots: 8 },
        sources: {
          web: { ports: [origin.port], allowed_networks: ["127.0.0.0/8"], connections: 1 },
        },
      },
    });
    const { client } = service;
    const late = await service.startWorker();
    const imageIds = await Promise.all(
      Array.from({ length: COPIES }, () => service.stagedImage(IMAGE_BYTES)),
    );
    for (const imageId of imageIds) service.holds.hold("slow", imageId);
    await Promise.all(
      imageIds.map((imageId) => client.imports.start(imageId, { stores: ["slow"] })),
    );
    const { id: fetched } = await client.images.create({
      diskFormat: "raw",
      containerFormat: "bare",
    });
    await client.imports.start(fetched, {
      method: "web-download",
      uri: origin.url(),
      stores: ["fast"],
    });
    await awaitWriter(service, late);
    for (const imageId of imageIds) await waitForPart(service.store("slow"), imageId, 1);
    await vi.waitUntil(() => origin.sentBytes >= IMAGE_BYTES / 2, PATIENCE);
    // Now, so that there are few seconds in which the one that stands still alone polls for tasks.
    await service.startWorker();
    await late.stop();
    const lateFiles = late.openFiles(".part").map(({ path }) => path);

    await awaitTakeOver(service, late);
    await vi.waitUntil(() => origin.exchanges.length > 1, PATIENCE);
    late.continue();
    // All that it had begun it lets go; what it is given from then on has other names.
    await vi.waitUntil(() => {
      const open = late.openFiles(".part").map(({ path }) => path.replace(" (deleted)", ""));
      return !open.some((path) => lateFiles.includes(path));
    }, PATIENCE);
    release();
    for (const imageId of imageIds) service.holds.release("slow", imageId);
    const outcomes = await Promise.all(
      [...imageIds, fetched].map((imageId) => client.imports.wait(imageId)),
    );

    expect(lateFiles).toHaveLength(COPIES + 1);
    expect(outcomes.map(({ status }) => status)).toEqual(outcomes.map(() => "active"));
    for (const [imageId, store] of [
      ...imageIds.map((each) => [each, "slow"] as const),
      [fetched, "fast"] as const,
    ]) {
      expect(await service.traces(imageId)).toEqual({
        image: "active",
        isClaimed: false,
        locations: [`${store} active`],
        leases: [],
        staging: [],
        stores: { fast: [], slow: [], [store]: ["@.1"] },
      });
    }
  }, 360_000);
});
