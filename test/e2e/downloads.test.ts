import { randomBytes, randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { craftedQcow2 } from "../support/crafted-images.ts";
import { waitForPart } from "../support/growing-part.ts";
import { honest, HostileOrigin, sendUpTo, type Behaviour } from "../support/hostile-origin.ts";
import { MIB } from "../support/mib.ts";
import { useRunningStack } from "../support/running-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const BYTES = randomBytes(32 * MIB);
const STOP_AT = Math.floor(BYTES.length * 0.6);

let behaviour: Behaviour = honest(BYTES);
let origin: HostileOrigin;

// Before the stack: its configuration names the port.
beforeAll(async () => {
  origin = await HostileOrigin.open((exchange) => behaviour(exchange));
});

afterAll(async () => {
  await origin.stop();
});

const stack = useRunningStack({
  config: async () => ({
    stores: { local: {}, spare: {} },
    import: { transforms: ["decompress"] },
    sources: { web: { ports: [origin.port], allowed_networks: ["127.0.0.0/8"] } },
  }),
});

describe("an image on the web", () => {
  it("is imported by one command, and copied into another store by a second one", async () => {
    const imported = await stack.commandLine.json("import", origin.url("/disk.raw"));

    expect(imported).toMatchObject({
      exitCode: 0,
      answer: { status: "active", stores: ["local"] },
    });
    const { image_id: imageId } = imported.answer as { image_id: string };
    expect(await stack.showImage(imageId)).toMatchObject({ name: "disk.raw", disk_format: "raw" });

    const copied = await stack.commandLine.json("image", "copy", imageId, "--store", "spare");
    const again = await stack.commandLine.json("image", "copy", imageId, "--all-stores");

    expect(copied).toMatchObject({ exitCode: 0, answer: { stores: ["spare"] } });
    expect(again).toMatchObject({ exitCode: 0, answer: { stores: [], task_id: null } });
    for (const [store, key] of [
      ["local", `${imageId}.1`],
      ["spare", `${imageId}.2`],
    ] as const) {
      expect((await readFile(join(stack.store(store), key))).equals(BYTES)).toBe(true);
    }
  });

  it("is requested only for the rest after its worker was killed at 60 %", async () => {
    behaviour = async (exchange) => {
      await sendUpTo(exchange, BYTES, STOP_AT);
      await exchange.gone();
    };
    const before = origin.sentBytes;
    const imageId = randomUUID();
    const importing = stack.commandLine.json("import", origin.url("/disk.raw"), "--id", imageId);
    // The worker writes whole blocks.
    await waitForPart(stack.staging, imageId, Math.floor(STOP_AT / MIB) * MIB);

    behaviour = honest(BYTES);
    await stack.kill("worker");
    const imported = await importing;

    expect(imported).toMatchObject({ exitCode: 0, answer: { status: "active" } });
    expect(origin.sentBytes - before).toBeLessThanOrEqual(BYTES.length + MIB);
    const stored = await readFile(join(stack.store("local"), `${imageId}.1`));
    expect(stored.equals(BYTES)).toBe(true);
  });

  it.each(["/ubuntu.img", "/ubuntu.bin", "/latest", "/ubuntu.img.gz"])(
    "gets the format that its bytes have when it is called %s",
    async (path) => {
      const isCompressed = path.endsWith(".gz");
      behaviour = honest(isCompressed ? gzipSync(craftedQcow2()) : craftedQcow2());

      const { image_id: imageId } = (await stack.commandLine.answer(
        "import",
        origin.url(path),
      )) as { image_id: string };

      expect(await stack.showImage(imageId)).toMatchObject({
        status: "active",
        disk_format: "qcow2",
        container_format: "bare",
      });
    },
  );

  it("is refused when it is not what is declared", async () => {
    behaviour = honest(craftedQcow2());
    const declared = ["--disk-format", "raw"];

    expect(
      await stack.commandLine.json("import", origin.url("/ubuntu.img"), ...declared),
    ).toMatchObject({ exitCode: 1, failure: { code: "FormatMismatch" } });
  });

  it("is asked for when the disk is inside of a container, before the first byte", async () => {
    const requests = origin.requests.length;

    const { exitCode, failure } = await stack.commandLine.json(
      ...["import", origin.url("/disk.img"), "--container-format", "ova"],
    );

    expect({ exitCode, failure }).toMatchObject({
      exitCode: 2,
      failure: {
        code: "BadUsage",
        message:
          'the name "disk.img" does not say which disk format the data in the container "ova" has',
      },
    });
    expect(origin.requests).toHaveLength(requests);
  });

  it("is not imported when it does not exist, and nothing is left", async () => {
    behaviour = async (exchange) => {
      exchange.head(404, { "content-length": 0 });
    };

    const { exitCode, failure } = await stack.commandLine.json("import", origin.url("/disk.raw"));

    expect({ exitCode, failure }).toMatchObject({
      exitCode: 1,
      failure: { code: "SourceRefused" },
    });
  });
});

describe("image copy", () => {
  it("wants to know where to", async () => {
    const id = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";

    expect(await stack.commandLine.json("image", "copy", id)).toMatchObject({
      exitCode: 2,
      failure: { code: "BadUsage", message: "no store to copy to was named" },
    });
  });
});

describe("a compressed file", () => {
  it("is decompressed, and has the format of the rest of its name", async () => {
    const file = join(makeTemporaryDirectory(), "disk.raw.gz");
    await writeFile(file, gzipSync(BYTES.subarray(0, MIB)));

    const { answer } = await stack.commandLine.json("import", file);

    const { image_id: imageId } = answer as { image_id: string };
    expect(await stack.showImage(imageId)).toMatchObject({ disk_format: "raw", size: MIB });
    const stored = await readFile(join(stack.store("local"), `${imageId}.1`));
    expect(stored.equals(BYTES.subarray(0, MIB))).toBe(true);
  });

  it.each(["disk.gz", "disk.img.gz", "disk.img"])(
    "gets the format of its content when its name is %s",
    async (name) => {
      const file = join(makeTemporaryDirectory(), name);
      await writeFile(file, gzipSync(craftedQcow2()));

      const { image_id: imageId } = (await stack.commandLine.answer("import", file)) as {
        image_id: string;
      };

      expect(await stack.showImage(imageId)).toMatchObject({
        disk_format: "qcow2",
        size: craftedQcow2().length,
      });
    },
  );
});
