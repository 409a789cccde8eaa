import { describe, expect, it, vi } from "vitest";
import { WriteBehind } from "../../src/bytes/write-behind.ts";
import { MIB } from "../support/mib.ts";

describe("WriteBehind", () => {
  it("syncs after every 128 MiB, and not for less", async () => {
    const sync = vi.fn(async () => undefined);
    const behind = new WriteBehind(sync);

    for (let written = 0; written < 300; written += 1) {
      behind.wrote(MIB);
      await Promise.resolve();
      if (written === 126) expect(sync).not.toHaveBeenCalled();
    }
    await behind.end();

    expect(sync).toHaveBeenCalledTimes(2);
  });

  it("runs one sync at a time, and waits for it at the end", async () => {
    let end: () => void = () => undefined;
    const sync = vi.fn(
      () =>
        new Promise<void>((resolve) => {
          end = resolve;
        }),
    );
    const behind = new WriteBehind(sync);
    behind.wrote(128 * MIB);
    behind.wrote(128 * MIB);
    const events: string[] = [];

    const ending = behind.end().then(() => events.push("ended"));
    await Promise.resolve();
    events.push("sync is over");
    end();
    await ending;

    expect(sync).toHaveBeenCalledTimes(1);
    expect(events).toEqual(["sync is over", "ended"]);
  });

  it("fails the next write, and the end, with the failure of a sync", async () => {
    const failure = new Error("the disk broke");
    const behind = new WriteBehind(() => Promise.reject(failure));
    behind.wrote(128 * MIB);

    await expect(behind.end()).rejects.toBe(failure);
    expect(() => {
      behind.wrote(1);
    }).toThrow(failure);
  });
});
