import { randomUUID } from "node:crypto";
import { statSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { describe, expect, inject, it, vi } from "vitest";
import { CommandLine } from "../support/command-line.ts";
import { writeRandomFile } from "../support/disk-images.ts";
import { digestsOf, type FileDigests } from "../support/file-digests.ts";
import { waitForPart } from "../support/growing-part.ts";
import { imageTraces, type ImageTraces } from "../support/image-traces.ts";
import { MIB } from "../support/mib.ts";
import { Relay } from "../support/relay.ts";
import { Service } from "../support/service.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const IMAGE_BYTES = 4 * MIB;
const HELD_AT_BYTES = 2 * MIB;

async function openService(): Promise<Service> {
  return Service.open({
    stores: { slow: {} },
    more: { import: { heartbeat_timeout: "3s" } },
  });
}

/** Every row that says something of an image. */
async function rowsOf(databaseUrl: string, imageId: string): Promise<unknown> {
  const sql = postgres(databaseUrl, { max: 1 });
  try {
    return {
      image: [...(await sql`SELECT * FROM images WHERE id = ${imageId}`)],
      locations: [
        ...(await sql`SELECT * FROM image_locations WHERE image_id = ${imageId} ORDER BY store, epoch`),
      ],
      leases: [
        ...(await sql`SELECT * FROM leases WHERE image_id = ${imageId} ORDER BY epoch, place`),
      ],
      staged: [
        ...(await sql`SELECT * FROM staged_files WHERE image_id = ${imageId} ORDER BY epoch, place`),
      ],
      tasks: [...(await sql`SELECT * FROM tasks WHERE image_id = ${imageId} ORDER BY id`)],
    };
  } finally {
    await sql.end();
  }
}

interface CopyState {
  readonly inode: number;
  readonly mtimeMs: number;
  readonly digests: FileDigests;
  readonly rows: unknown;
  readonly traces: ImageTraces;
}

/** All that is to be seen of an image whose import has ended. */
async function look({ dataDir, databaseUrl }: Service, imageId: string): Promise<CopyState> {
  const stored = join(dataDir, "stores/slow", `${imageId}.1`);
  const { ino, mtimeMs } = statSync(stored);
  return {
    inode: ino,
    mtimeMs,
    digests: await digestsOf(stored),
    rows: await rowsOf(databaseUrl, imageId),
    traces: await imageTraces(databaseUrl, dataDir, imageId),
  };
}

describe("a worker that stands still in the middle of a copy until another one has finished it", () => {
  it("changes nothing when it continues", async () => {
    const service = await openService();
    // Between the first worker and Temporal: once it is cut, that worker does not learn that it
    // is late.
    const relay = await Relay.open(`http://${inject("temporalAddress")}`);
    const { host } = new URL(relay.through(`http://${inject("temporalAddress")}`));
    const late = await service.startWorker({ TEMPORAL_ADDRESS: host });
    const imageId = randomUUID();
    const path = join(makeTemporaryDirectory(), "disk.raw");
    await writeRandomFile(path, IMAGE_BYTES);
    service.holds.hold("slow", imageId, HELD_AT_BYTES);
    const importing = new CommandLine({ env: service.env }).start("import", path, "--id", imageId);
    await waitForPart(service.store("slow"), imageId, HELD_AT_BYTES);
    await late.stop();
    // The worker writes the rest when it continues.
    service.holds.release("slow", imageId);
    relay.freeze();
    relay.cut();

    await service.startWorker();
    const result = await importing.result();
    const finished = await look(service, imageId);
    const unfinished = late.openFiles(`${imageId}.1.`);
    late.continue();
    // The staged file is the last thing that it lets go, whatever it tried before.
    await vi.waitUntil(() => late.openFiles(imageId).length === 0, { timeout: 60_000 });

    const digests = await digestsOf(path);
    expect(unfinished).toHaveLength(1);
    expect(unfinished[0]?.path).toMatch(/\.part \(deleted\)$/);
    expect(unfinished[0]?.sizeBytes).toBeLessThan(IMAGE_BYTES);
    expect(result).toMatchObject({ exitCode: 0, answer: { status: "active", ...digests } });
    expect(finished.digests).toEqual(digests);
    expect(finished.traces).toEqual({
      image: "active",
      isClaimed: false,
      locations: ["slow active"],
      leases: [],
      staging: [],
      stores: { slow: ["@.1"] },
    });
    expect(await look(service, imageId)).toEqual(finished);
  });
});
