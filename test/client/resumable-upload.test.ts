import { appendFile, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { sql, type SQL } from "drizzle-orm";
import { describe, expect } from "vitest";
import { fingerprintOf } from "../../src/bytes/fingerprint.ts";
import {
  beginUpload,
  continueUpload,
  endUpload,
  findUpload,
} from "../../src/client/resumable-upload.ts";
import { SOME_WRITER, useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { MIB } from "../support/mib.ts";
import { type NodeRig, onNode, openNode, someBytes } from "../support/node-rig.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);
const BYTES = someBytes(4 * MIB);
const GENERATION = "01234567";

/** An upload of {@link BYTES} that the test continues as one process after another would. */
class TestUpload {
  readonly #rig: NodeRig;
  readonly imageId: string;

  private constructor(rig: NodeRig, imageId: string) {
    this.#rig = rig;
    this.imageId = imageId;
  }

  static async begin(rig: NodeRig): Promise<TestUpload> {
    const imageId = await catalogue.newImage();
    const order = { imageId, generation: GENERATION, size: BYTES.length, metadata: "" };
    await beginUpload(rig.stagingTools, order);
    return new TestUpload(rig, imageId);
  }

  get key() {
    return { imageId: this.imageId, generation: GENERATION };
  }

  async send(
    offset: number,
    end = BYTES.length,
    signal = new AbortController().signal,
  ): Promise<number> {
    const bytes = Readable.from([BYTES.subarray(offset, end)]);
    const next = { offset, bytes, size: end - offset, signal };
    return (await continueUpload(this.#rig.stagingTools, this.key, next)).offset;
  }

  async offset(): Promise<number> {
    return (await findUpload(this.#rig.stagingTools, this.key)).offset;
  }

  async row() {
    const row = await catalogue.staged(this.imageId);
    if (row?.part == null) throw new Error("The upload has no part");
    return { ...row, part: row.part };
  }

  async partPath(): Promise<string> {
    return this.#rig.staged((await this.row()).part);
  }

  /** Makes its last writer one of another machine, which has not renewed its lease in time. */
  async leaveElsewhere(): Promise<void> {
    await this.leave({ isHeld: true });
    await this.#change(
      sql`writer = ${JSON.stringify(SOME_WRITER)}::jsonb, renewed_at = now() - interval '1 minute'`,
    );
  }

  /** Records facts as its last writer would, which has died. */
  async leave(facts: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#change(sql`resumable = resumable || ${JSON.stringify(facts)}::jsonb`);
  }

  /** Makes what was written that of a boot that is over. */
  async rebootMachine(): Promise<void> {
    await this.leave({ bootId: SOME_WRITER.bootId });
  }

  async #change(set: SQL): Promise<void> {
    await catalogue.database.query((db) =>
      db.execute(sql`UPDATE leases SET ${set} WHERE image_id = ${this.imageId}`),
    );
  }

  /** A writer takes the upload and begins to copy its part, and is broken off. */
  async breakCopyOff(offset: number): Promise<void> {
    const broken = AbortSignal.abort(new Error("The connection broke"));
    await expect(this.send(offset, BYTES.length, broken)).rejects.toThrow();
  }

  /** Sends the bytes before this one, and the connection breaks. */
  async breakOff(end: number): Promise<void> {
    const bytes = Readable.from(
      (async function* () {
        yield BYTES.subarray(0, end);
        await Promise.resolve();
        throw new Error("The connection broke");
      })(),
    );
    const next = { offset: 0, bytes, size: BYTES.length, signal: new AbortController().signal };
    await expect(continueUpload(this.#rig.stagingTools, this.key, next)).rejects.toThrow();
  }

  /** Sends the rest, and expects that nothing but the right file is left. */
  async finish(): Promise<void> {
    expect(await this.send(await this.offset())).toBe(BYTES.length);
    expect((await readFile(this.#rig.staged(this.imageId))).equals(BYTES)).toBe(true);
    expect(await this.#rig.names("staging")).toEqual([this.imageId]);
  }
}

describe("continueUpload(), when the writer before may be alive on another machine", () => {
  it("continues in a copy of its part, and removes that", async ({ rig }) => {
    const upload = await TestUpload.begin(rig);
    await upload.send(0, 2 * MIB);
    const { part } = await upload.row();
    await upload.leaveElsewhere();

    expect(await upload.send(2 * MIB, 3 * MIB)).toBe(3 * MIB);

    const now = await upload.row();
    expect(now).toMatchObject({ earlierParts: [], resumable: { source: null } });
    expect(await rig.names("staging")).toEqual([now.part]);
    expect(now.part).not.toBe(part);
    await upload.finish();
  });

  it("keeps the offset while the bytes are copied, and copies them once it can", async () => {
    const upload = await TestUpload.begin(await openNode(catalogue));
    await upload.send(0, 3 * MIB);
    await upload.leaveElsewhere();

    // By the next process that dies, by one on a third machine, and by one that gives up.
    await upload.breakCopyOff(3 * MIB);
    expect(await upload.offset()).toBe(3 * MIB);
    await upload.leaveElsewhere();
    await upload.breakCopyOff(3 * MIB);
    expect(await upload.offset()).toBe(3 * MIB);
    await upload.breakCopyOff(3 * MIB);
    expect(await upload.offset()).toBe(3 * MIB);

    await upload.finish();
  });

  it("continues with a copy where it was broken off", async ({ rig }) => {
    const upload = await TestUpload.begin(rig);
    await upload.send(0, 3 * MIB);
    await upload.leaveElsewhere();
    await upload.breakCopyOff(3 * MIB);
    // Other bytes than the first: what is there is not copied again.
    await writeFile(await upload.partPath(), BYTES.subarray(MIB, 2 * MIB));

    await upload.send(3 * MIB, 3 * MIB + 1);

    const copied = await readFile(await upload.partPath());
    expect(copied.subarray(0, MIB).equals(BYTES.subarray(MIB, 2 * MIB))).toBe(true);
    expect(copied.subarray(MIB).equals(BYTES.subarray(MIB, 3 * MIB + 1))).toBe(true);
  });

  it("copies again what another boot of the machine had copied", async () => {
    const upload = await TestUpload.begin(await openNode(catalogue));
    await upload.send(0, 3 * MIB);
    await upload.leaveElsewhere();
    await upload.breakCopyOff(3 * MIB);
    await writeFile(await upload.partPath(), Buffer.alloc(2 * MIB));
    const { source } = (await upload.row()).resumable ?? {};
    await upload.leave({ source: { ...source, bootId: SOME_WRITER.bootId } });

    await upload.finish();
  });

  it("counts nothing that it writes after the takeover", async ({ rig }) => {
    const upload = await TestUpload.begin(rig);
    await upload.send(0, 2 * MIB);
    const before = await upload.partPath();
    await upload.leaveElsewhere();
    await upload.breakCopyOff(2 * MIB);

    await appendFile(before, someBytes(MIB));

    expect(await upload.offset()).toBe(2 * MIB);
    await upload.finish();
  });

  it("takes the file that it has published, and not committed", async ({ rig }) => {
    const upload = await TestUpload.begin(rig);
    await publishUncommitted(rig, upload);
    await upload.leaveElsewhere();

    expect(await upload.offset()).toBe(BYTES.length - 1);
    await upload.breakCopyOff(BYTES.length - 1);
    expect(await upload.offset()).toBe(BYTES.length - 1);
    await upload.finish();
  });

  it("refuses another offset before it copies", async () => {
    const upload = await TestUpload.begin(await openNode(catalogue));
    await upload.send(0, 2 * MIB);
    await upload.leaveElsewhere();

    expect(await failureOf(upload.send(MIB))).toMatchObject({ code: "ImageConflict" });

    expect(await upload.offset()).toBe(2 * MIB);
    await upload.finish();
  });

  it("ends without a trace of both parts", async ({ rig }) => {
    const upload = await TestUpload.begin(rig);
    await upload.send(0, 2 * MIB);
    await upload.leaveElsewhere();
    await upload.breakCopyOff(2 * MIB);

    await endUpload(rig.stagingTools, upload.key);

    expect(await rig.names("staging")).toEqual([]);
    expect(await catalogue.image(upload.imageId)).toMatchObject({ status: "queued" });
  });
});

describe("continueUpload(), when a writer died between the publication and its commit", () => {
  it("finishes with the published file", async ({ rig }) => {
    const upload = await TestUpload.begin(rig);
    await publishUncommitted(rig, upload);

    expect(await upload.offset()).toBe(BYTES.length - 1);
    await upload.finish();
  });

  it("finishes with it after the machine went down, too", async ({ rig }) => {
    const upload = await TestUpload.begin(rig);
    await publishUncommitted(rig, upload);
    await upload.rebootMachine();

    expect(await upload.offset()).toBe(BYTES.length - 1);
    await upload.finish();
  });

  it("takes no other file for it", async ({ rig }) => {
    const upload = await TestUpload.begin(rig);
    await publishUncommitted(rig, upload);
    await writeFile(rig.staged(upload.imageId), BYTES);

    expect(await upload.offset()).toBe(0);
    await upload.finish();
  });

  it("is ended without a trace", async ({ rig }) => {
    const upload = await TestUpload.begin(rig);
    await publishUncommitted(rig, upload);

    await endUpload(rig.stagingTools, upload.key);

    expect(await rig.names("staging")).toEqual([]);
  });
});

describe("findUpload()", () => {
  it("counts every byte that was answered after the machine went down", async () => {
    const upload = await TestUpload.begin(await openNode(catalogue));
    await upload.send(0, MIB + 7);
    await upload.rebootMachine();

    expect(await upload.offset()).toBe(MIB + 7);
    await upload.finish();
  });

  it("counts the bytes of a broken connection after the machine went down", async () => {
    const upload = await TestUpload.begin(await openNode(catalogue));
    await upload.breakOff(2 * MIB);
    await upload.rebootMachine();

    expect(await upload.offset()).toBe(2 * MIB);
    await upload.finish();
  });

  it("counts nothing of a part that is gone", async ({ rig }) => {
    const upload = await TestUpload.begin(rig);
    await upload.send(0, 2 * MIB);
    await upload.leaveElsewhere();
    await upload.breakCopyOff(2 * MIB);
    await rm(rig.staged((await upload.row()).earlierParts[0] ?? ""));

    expect(await upload.offset()).toBe(0);
    await upload.finish();
  });
});

/** Leaves an upload as a process does that dies after it has published the file. */
async function publishUncommitted(rig: NodeRig, upload: TestUpload): Promise<void> {
  await upload.send(0, BYTES.length - 1);
  const path = await upload.partPath();
  await appendFile(path, BYTES.subarray(-1));
  const handle = await open(path);
  const complete = await fingerprintOf(handle);
  await handle.close();
  await upload.leave({ complete, syncedBytes: BYTES.length });
  await rename(path, rig.staged(upload.imageId));
}
