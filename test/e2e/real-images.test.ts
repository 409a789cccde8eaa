import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import {
  checkDisk,
  compareDisks,
  convertDisk,
  makeIso,
  makeRawDisk,
  MISSING_TOOL,
} from "../support/disk-images.ts";
import { digestsOf } from "../support/file-digests.ts";
import { MIB } from "../support/mib.ts";
import { useRunningStack } from "../support/running-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const DISK_BYTES = 16 * MIB;

const skipReason = MISSING_TOOL === undefined ? "" : ` (skipped: no ${MISSING_TOOL} here)`;

const stack = useRunningStack({
  config: { stores: { local: {}, copied: { zero_copy: false } } },
});

/**
 * Imports a file with one command, into both stores, and reads what the service says of the image
 * then.
 */
async function importImage(path: string) {
  const imageId = randomUUID();
  const stores = ["--store", "local", "--store", "copied"];
  const result = await stack.commandLine.json("import", path, "--id", imageId, ...stores);
  const image = await stack.showImage(imageId);
  const stored = image.locations.map(({ url }) => fileURLToPath(url));
  return { result, image, stored };
}

function expectedImage(format: string, virtualSizeBytes: number) {
  return {
    status: "active",
    disk_format: format,
    container_format: "bare",
    virtual_size: virtualSizeBytes,
    stores: ["copied", "local"],
  };
}

describe.skipIf(MISSING_TOOL !== undefined)(`import of a real image${skipReason}`, () => {
  it("keeps a raw disk byte for byte", async () => {
    const path = await makeRawDisk(makeTemporaryDirectory(), DISK_BYTES);

    const { result, image, stored } = await importImage(path);

    const digests = await digestsOf(path);
    expect(result).toMatchObject({ exitCode: 0, answer: digests });
    expect(image).toMatchObject({ ...expectedImage("raw", DISK_BYTES), ...digests });
    expect(await Promise.all(stored.map(digestsOf))).toEqual([digests, digests]);
    expect(await compareDisks("raw", path, stored[0] ?? "")).toBe("Images are identical.\n");
  });

  it("recognises a qcow2 and keeps it byte for byte", async () => {
    const raw = await makeRawDisk(makeTemporaryDirectory(), DISK_BYTES);
    const path = await convertDisk(raw, "qcow2");

    const { result, image, stored } = await importImage(path);

    const digests = await digestsOf(path);
    expect(result).toMatchObject({ exitCode: 0, answer: digests });
    expect(image).toMatchObject({ ...expectedImage("qcow2", DISK_BYTES), ...digests });
    expect(await Promise.all(stored.map(digestsOf))).toEqual([digests, digests]);
    expect(await compareDisks("qcow2", path, stored[0] ?? "")).toBe("Images are identical.\n");
    expect(await checkDisk("qcow2", stored[0] ?? "")).toContain("No errors were found");
  });

  it("recognises a monolithic sparse vmdk and keeps it byte for byte", async () => {
    const raw = await makeRawDisk(makeTemporaryDirectory(), DISK_BYTES);
    const path = await convertDisk(raw, "vmdk", ["subformat=monolithicSparse"]);

    const { result, image, stored } = await importImage(path);

    const digests = await digestsOf(path);
    expect(result).toMatchObject({ exitCode: 0, answer: digests });
    expect(image).toMatchObject({ ...expectedImage("vmdk", DISK_BYTES), ...digests });
    expect(await Promise.all(stored.map(digestsOf))).toEqual([digests, digests]);
    expect(await compareDisks("vmdk", path, stored[0] ?? "")).toBe("Images are identical.\n");
    expect(await checkDisk("vmdk", stored[0] ?? "")).toContain("No errors were found");
  });

  it("recognises an ISO and keeps it byte for byte", async () => {
    const path = await makeIso(makeTemporaryDirectory());

    const { result, image, stored } = await importImage(path);

    const digests = await digestsOf(path);
    expect(result).toMatchObject({ exitCode: 0, answer: digests });
    expect(image).toMatchObject({ ...expectedImage("iso", digests.size), ...digests });
    expect(await Promise.all(stored.map(digestsOf))).toEqual([digests, digests]);
  });
});
