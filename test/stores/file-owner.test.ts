import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { mayGiveFilesTo } from "../../src/stores/file-owner.ts";
import { programPath } from "../support/child-program.ts";
import { asUnprivileged } from "../support/unprivileged.ts";

const IS_ROOT = process.geteuid?.() === 0;
const NEEDS_ROOT = IS_ROOT ? "" : " (skipped: only root may give up rights)";

const OTHER = { uid: 64_055, gid: 64_056 };

/** The output of a process that `setpriv` starts with these options. */
function askedWith(...options: readonly string[]): unknown {
  const node = [process.execPath, programPath("may-give-files.mjs"), JSON.stringify(OTHER)];
  return JSON.parse(execFileSync("setpriv", [...options, ...node], { encoding: "utf8" }));
}

describe("mayGiveFilesTo()", () => {
  it("may give files to the owner that they have", async () => {
    const own = { uid: process.geteuid?.() ?? -1, gid: process.getegid?.() ?? -1 };

    expect(await mayGiveFilesTo(own)).toBe(true);
    expect(
      await asUnprivileged(() => mayGiveFilesTo(IS_ROOT ? { uid: 65_534, gid: 65_534 } : own)),
    ).toBe(true);
  });

  it.each([
    ["another user", { uid: OTHER.uid }],
    ["a group that is not its own", { gid: OTHER.gid }],
  ])("may not give them to %s without the right to", async (_, other) => {
    const own = IS_ROOT
      ? { uid: 65_534, gid: 65_534 }
      : { uid: process.geteuid?.() ?? -1, gid: process.getegid?.() ?? -1 };

    expect(await asUnprivileged(() => mayGiveFilesTo({ ...own, ...other }))).toBe(false);
  });

  it.skipIf(!IS_ROOT)(`may give them to any user as root${NEEDS_ROOT}`, async () => {
    expect(await mayGiveFilesTo(OTHER)).toBe(true);
  });

  it.skipIf(!IS_ROOT)(`may not as a root that has lost that right${NEEDS_ROOT}`, () => {
    expect(askedWith("--bounding-set=-chown")).toBe(false);
  });
});
