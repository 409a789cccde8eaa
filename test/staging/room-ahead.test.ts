import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RoomAhead } from "../../src/staging/room-ahead.ts";
import { MIB } from "../support/mib.ts";

/** Grants every request up to a total, and records the requests. */
function landlord(totalBytes = Infinity) {
  const asked: { imageBytes: number; welcomeBytes: number }[] = [];
  const grow = async (growth: { imageBytes: number; welcomeBytes: number }): Promise<number> => {
    asked.push(growth);
    if (growth.imageBytes > totalBytes) throw new Error("no room");
    return Math.min(growth.welcomeBytes, totalBytes);
  };
  return { asked, grow };
}

describe("RoomAhead", () => {
  it("does not ask for bytes that are granted already", async () => {
    const { asked, grow } = landlord();
    const room = new RoomAhead(grow, 5 * MIB);

    await room.reach(5 * MIB);

    expect(asked).toEqual([]);
  });

  it("asks for as many again as there are, and 64 MiB at most", async () => {
    const { asked, grow } = landlord();
    const room = new RoomAhead(grow, 0);

    for (let doneBytes = MIB; doneBytes <= 300 * MIB; doneBytes += MIB) await room.reach(doneBytes);

    const steps = asked.map((each) => [each.imageBytes / MIB, each.welcomeBytes / MIB]);
    expect(steps).toEqual([
      [1, 2],
      [3, 6],
      [7, 14],
      [15, 30],
      [31, 62],
      [63, 126],
      [127, 191],
      [192, 256],
      [257, 321],
    ]);
  });

  it("fills the last byte of the room, and fails at the next", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1000 }),
        fc.integer({ min: 1, max: 50 }),
        async (totalBytes, stepBytes) => {
          const room = new RoomAhead(landlord(totalBytes).grow, 0);
          for (let doneBytes = 0; doneBytes < totalBytes; doneBytes += stepBytes) {
            await room.reach(Math.min(doneBytes + stepBytes, totalBytes));
          }
          await expect(room.reach(totalBytes + 1)).rejects.toThrow("no room");
        },
      ),
    );
  });
});
