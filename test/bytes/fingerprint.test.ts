import { chmod, link, open, rename, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { beforeEach, describe, expect, it } from "vitest";
import { compareFingerprints, fingerprintOf } from "../../src/bytes/fingerprint.ts";
import type { Fingerprint } from "../../src/bytes/fingerprint.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

let path: string;
beforeEach(async () => {
  path = join(makeTemporaryDirectory(), "file");
  await writeFile(path, "bytes");
});

async function fingerprint(): Promise<Fingerprint> {
  await using handle = await open(path);
  return await fingerprintOf(handle);
}

// File times advance with the kernel's tick, up to 10 ms; a change within one tick could not be
// seen.
async function nextTick(): Promise<void> {
  await setTimeout(20);
}

describe("fingerprintOf()", () => {
  it("gives decimal strings that survive JSON", async () => {
    const { ino, size, mtimeNs } = await stat(path, { bigint: true });

    const copy = JSON.parse(JSON.stringify(await fingerprint())) as unknown;

    expect(copy).toMatchObject({
      ino: String(ino),
      sizeBytes: String(size),
      mtimeNs: String(mtimeNs),
    });
  });
});

describe("compareFingerprints()", () => {
  it("is same when nothing happened", async () => {
    expect(compareFingerprints(await fingerprint(), await fingerprint())).toBe("same");
  });

  it.each([
    { what: "a chmod", touch: () => chmod(path, 0o440) },
    { what: "another link", touch: () => link(path, `${path}-2`) },
    {
      what: "renaming there and back",
      touch: () => rename(path, `${path}-2`).then(() => rename(`${path}-2`, path)),
    },
  ])("is touched after $what", async ({ touch }) => {
    const recorded = await fingerprint();
    await nextTick();

    await touch();

    expect(compareFingerprints(recorded, await fingerprint())).toBe("touched");
  });

  it("is touched when only the device number differs, as after a remount", async () => {
    const recorded = await fingerprint();

    expect(compareFingerprints(recorded, { ...recorded, dev: "0" })).toBe("touched");
  });

  it.each([
    { what: "other bytes of the same length", change: () => writeFile(path, "other") },
    { what: "another length", change: () => truncate(path, 2) },
    { what: "another time of change", change: () => utimes(path, 1, 1) },
    {
      what: "another file of the same name",
      change: () => writeFile(`${path}-2`, "bytes").then(() => rename(`${path}-2`, path)),
    },
  ])("is changed after $what", async ({ change }) => {
    const recorded = await fingerprint();
    await nextTick();

    await change();

    expect(compareFingerprints(recorded, await fingerprint())).toBe("changed");
  });
});
