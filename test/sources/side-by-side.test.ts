import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { RANGE_BYTES } from "../../src/sources/side-by-side.ts";
import { WebSource, type DownloadOrder } from "../../src/sources/web-source.ts";
import { failureOf } from "../support/failure-of.ts";
import {
  beginAnswer,
  HostileOrigin,
  type Behaviour,
  type Exchange,
} from "../support/hostile-origin.ts";

const BYTES = randomBytes(5 * RANGE_BYTES + 17);
const CONNECTIONS = 3;

/** An origin that has ranges and says so. */
const withRanges: Behaviour = async (exchange) => {
  await exchange.send(wantedOf(exchange));
};

/** Begins an answer as an origin does that has ranges. Returns the bytes that are asked for. */
function wantedOf(exchange: Exchange, bytes = BYTES, etag = '"one"'): Buffer {
  const start = beginAnswer(exchange, bytes, etag, { "accept-ranges": "bytes" });
  return bytes.subarray(start, start === exchange.from ? exchange.to : undefined);
}

/** Goes wrong at one range that begins in the middle, every time it is asked for. */
function wrongAt(rangeNumber: number, behaviour: Behaviour): Behaviour {
  return async (exchange) => {
    const isIt = exchange.to !== undefined && exchange.from === rangeNumber * RANGE_BYTES;
    await (isIt ? behaviour : withRanges)(exchange);
  };
}

async function openFrom(
  origin: HostileOrigin,
  order: Partial<DownloadOrder> = {},
  connections = CONNECTIONS,
) {
  const web = new WebSource({
    schemes: ["http"],
    ports: [origin.port],
    allowedNetworks: ["127.0.0.0/8"],
    allowedHosts: [],
    deniedHosts: [],
    connectTimeoutMs: 2_000,
    headerTimeoutMs: 1_000,
    idleTimeoutMs: 1_000,
    minimumRate: 1,
    connections,
  });
  const { signal } = new AbortController();
  const download = await web.open({ url: origin.url(), maxBytes: Infinity, signal, ...order });
  onTestFinished(() => download[Symbol.asyncDispose]());
  return download;
}

type Download = Awaited<ReturnType<typeof openFrom>>;

async function readAll(download: Download): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for (;;) {
    const piece = Buffer.alloc(1024 * 1024);
    const lengthBytes = await download.read(piece);
    if (lengthBytes === 0) return Buffer.concat(pieces);
    pieces.push(piece.subarray(0, lengthBytes));
  }
}

/** The ranges that were asked for, in the order of their bytes. */
function rangesOf(origin: HostileOrigin): string[] {
  const firstOf = (range: string): number => Number(/\d+/.exec(range)?.[0]);
  return origin.requests
    .map(({ headers }) => headers["range"] ?? "all")
    .sort((one, other) => firstOf(one) - firstOf(other));
}

describe("a download over several connections", () => {
  it("brings all bytes in order, and asks for each range once", async () => {
    const origin = await HostileOrigin.start(withRanges);

    const download = await openFrom(origin);

    expect((await readAll(download)).equals(BYTES)).toBe(true);
    expect(rangesOf(origin)).toEqual(["all", ...[1, 2, 3, 4, 5].map(rangeNumber)]);
  });

  it("has so many at once, and no more while nobody reads", async () => {
    const origin = await HostileOrigin.start(withRanges);
    const download = await openFrom(origin);

    const firstBytes = await download.read(Buffer.alloc(1000));
    await vi.waitUntil(() => origin.exchanges.length === CONNECTIONS);
    await sleep(200);

    expect(firstBytes).toBe(1000);
    expect(rangesOf(origin)).toEqual(["all", rangeNumber(1), rangeNumber(2)]);
  });

  it("goes on where an earlier one ended", async () => {
    const origin = await HostileOrigin.start(withRanges);
    const startAt = RANGE_BYTES + 5;
    const state = { validator: '"one"', sizeBytes: BYTES.length };

    const download = await openFrom(origin, { continuation: { startAt, state } });

    expect((await readAll(download)).equals(BYTES.subarray(startAt))).toBe(true);
    expect(origin.requests[0]?.headers["range"]).toBe(`bytes=${String(startAt)}-`);
    expect(origin.requests).toHaveLength(5);
  });

  it.each<[string, Behaviour]>([
    [
      "does not say that it has ranges",
      async (exchange) => {
        beginAnswer(exchange, BYTES);
        await exchange.send(BYTES);
      },
    ],
    [
      "has no validator",
      async (exchange) => {
        exchange.head(200, { "content-length": BYTES.length, "accept-ranges": "bytes" });
        await exchange.send(BYTES);
      },
    ],
    [
      "does not say how much it has",
      async (exchange) => {
        const head = { etag: '"one"', "accept-ranges": "bytes", "transfer-encoding": "chunked" };
        exchange.head(200, head);
        await exchange.chunk(BYTES);
        await exchange.send("0\r\n\r\n");
      },
    ],
  ])("is one over a single connection when the origin %s", async (_, behaviour) => {
    const origin = await HostileOrigin.start(behaviour);

    expect((await readAll(await openFrom(origin))).equals(BYTES)).toBe(true);
    expect(rangesOf(origin)).toEqual(["all"]);
  });

  it("is one over a single connection when that is what is configured", async () => {
    const origin = await HostileOrigin.start(withRanges);

    expect((await readAll(await openFrom(origin, {}, 1))).equals(BYTES)).toBe(true);
    expect(rangesOf(origin)).toEqual(["all"]);
  });

  it.each<[string, Behaviour]>([
    [
      "refuses more connections",
      async (exchange) => {
        exchange.head(503, { "content-length": 0 });
      },
    ],
    [
      "has no ranges after all",
      async (exchange) => {
        exchange.head(200, { "content-length": BYTES.length, etag: '"one"' });
        await exchange.send(BYTES);
      },
    ],
    [
      "answers with another range",
      async (exchange) => {
        const range = `bytes 0-999/${String(BYTES.length)}`;
        exchange.head(206, { "content-length": 1000, etag: '"one"', "content-range": range });
        await exchange.send(BYTES.subarray(0, 1000));
      },
    ],
    [
      "answers with less than was asked for",
      async (exchange) => {
        const from = exchange.from ?? 0;
        const range = `bytes ${String(from)}-${String(from + 999)}/${String(BYTES.length)}`;
        exchange.head(206, { "content-length": 1000, etag: '"one"', "content-range": range });
        await exchange.send(BYTES.subarray(from, from + 1000));
      },
    ],
    [
      "answers with more than was asked for",
      async (exchange) => {
        const from = exchange.from ?? 0;
        const last = (exchange.to ?? 0) - 1;
        exchange.head(206, {
          "transfer-encoding": "chunked",
          etag: '"one"',
          "content-range": `bytes ${String(from)}-${String(last)}/${String(BYTES.length)}`,
        });
        await exchange.chunk(BYTES.subarray(from, last + 2));
        await exchange.send("0\r\n\r\n");
      },
    ],
    [
      "breaks a connection",
      async (exchange) => {
        await exchange.send(wantedOf(exchange).subarray(0, 100_000));
        exchange.reset();
      },
    ],
    [
      "stalls",
      async (exchange) => {
        await exchange.send(wantedOf(exchange).subarray(0, 100_000));
        await exchange.gone();
      },
    ],
  ])("goes on over one when the origin %s", async (_, behaviour) => {
    const origin = await HostileOrigin.start(wrongAt(2, behaviour));

    expect((await readAll(await openFrom(origin))).equals(BYTES)).toBe(true);
    expect(rangesOf(origin)).toContainEqual(expect.stringMatching(/^bytes=\d+-$/));
  });

  it("does not put two states of a resource together", async () => {
    const others = randomBytes(BYTES.length);
    const origin = await HostileOrigin.start(async (exchange) => {
      const isFirst = exchange.earlier === 0;
      await exchange.send(isFirst ? wantedOf(exchange) : wantedOf(exchange, others, '"two"'));
    });

    expect(await failureOf(openFrom(origin).then(readAll))).toMatchObject({
      code: "SourceUnavailable",
    });
  });

  it("is refused when more comes behind the last range than was promised", async () => {
    const origin = await HostileOrigin.start(
      wrongAt(5, async (exchange) => {
        await exchange.send(Buffer.concat([wantedOf(exchange), Buffer.from("more")]));
      }),
    );

    expect(await failureOf(openFrom(origin).then(readAll))).toMatchObject({
      code: "SourceRefused",
    });
  });

  it.each(["is told to stop", "is disposed of"])("ends all of them when it %s", async (how) => {
    const origin = await HostileOrigin.start(async (exchange) => {
      await exchange.send(wantedOf(exchange).subarray(0, 100_000));
      await exchange.gone();
    });
    const controller = new AbortController();
    const reason = new Error("Enough");
    const download = await openFrom(origin, { signal: controller.signal });
    await download.read(Buffer.alloc(1000));
    await vi.waitUntil(() => origin.exchanges.length === CONNECTIONS);

    if (how === "is told to stop") {
      controller.abort(reason);
      await expect(readAll(download)).rejects.toBe(reason);
    } else {
      await download[Symbol.asyncDispose]();
    }

    await vi.waitUntil(() => origin.exchanges.every(({ isOpen }) => !isOpen));
  });
});

/** How the range of that number is asked for, the first being 0. */
function rangeNumber(number: number): string {
  const last = Math.min((number + 1) * RANGE_BYTES, BYTES.length) - 1;
  return `bytes=${String(number * RANGE_BYTES)}-${String(last)}`;
}
