import { randomBytes } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { RANGE_BYTES } from "../../src/sources/side-by-side.ts";
import type { DownloadOrder } from "../../src/sources/web-download.ts";
import { WebSource } from "../../src/sources/web-source.ts";
import { failureOf } from "../support/failure-of.ts";
import {
  beginAnswer,
  HostileOrigin,
  type Behaviour,
  type Exchange,
} from "../support/hostile-origin.ts";
import { PATIENCE } from "../support/patience.ts";

const BYTES = randomBytes(5 * RANGE_BYTES + 17);
const CONNECTIONS = 3;

/** An origin that supports ranges and announces it. */
const withRanges: Behaviour = async (exchange) => {
  await exchange.send(wantedOf(exchange));
};

/** Begins a response like an origin that supports ranges. Returns the requested bytes. */
function wantedOf(exchange: Exchange, bytes = BYTES, etag = '"one"'): Buffer {
  const start = beginAnswer(exchange, bytes, etag, { "accept-ranges": "bytes" });
  return bytes.subarray(start, start === exchange.from ? exchange.to : undefined);
}

/** Fails at one range that begins in the middle, every time it is requested. */
function wrongAt(rangeNumber: number, behaviour: Behaviour): Behaviour {
  return async (exchange) => {
    const isIt = exchange.to !== undefined && exchange.from === rangeNumber * RANGE_BYTES;
    await (isIt ? behaviour : withRanges)(exchange);
  };
}

async function openFrom(
  origin: HostileOrigin,
  order: Partial<DownloadOrder> = {},
  { connections = CONNECTIONS, idleTimeoutMs = 20_000, ports = [origin.port] } = {},
) {
  const web = new WebSource({
    schemes: ["http"],
    ports,
    allowedNetworks: ["127.0.0.0/8"],
    allowedHosts: [],
    deniedHosts: [],
    connectTimeoutMs: 20_000,
    headerTimeoutMs: 20_000,
    idleTimeoutMs,
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

/** The requested ranges, in the order of their bytes. */
function rangesOf(origin: HostileOrigin): string[] {
  const firstOf = (range: string): number => Number(/\d+/.exec(range)?.[0]);
  return origin.requests
    .map(({ headers }) => headers["range"] ?? "all")
    .sort((one, other) => firstOf(one) - firstOf(other));
}

describe("a download over several connections", () => {
  it("returns all bytes in order, and requests each range once", async () => {
    const origin = await HostileOrigin.start(withRanges);

    const download = await openFrom(origin);

    expect((await readAll(download)).equals(BYTES)).toBe(true);
    expect(rangesOf(origin)).toEqual(["all", ...[1, 2, 3, 4, 5].map(rangeNumber)]);
  });

  it("has as many at once as configured, and does not continue while the test does not read", async () => {
    const origin = await HostileOrigin.start(withRanges);
    const download = await openFrom(origin);

    const firstBytes = await download.read(Buffer.alloc(1000));
    await vi.waitUntil(() => origin.exchanges.length === CONNECTIONS, PATIENCE);
    await sleep(200);

    expect(firstBytes).toBe(1000);
    expect(rangesOf(origin)).toEqual(["all", rangeNumber(1), rangeNumber(2)]);
  });

  it("continues where an earlier one ended", async () => {
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
      "does not announce ranges",
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
      "does not state the size",
      async (exchange) => {
        const head = { etag: '"one"', "accept-ranges": "bytes", "transfer-encoding": "chunked" };
        exchange.head(200, head);
        await exchange.chunk(BYTES);
        await exchange.send("0\r\n\r\n");
      },
    ],
  ])("uses a single connection when the origin %s", async (_, behaviour) => {
    const origin = await HostileOrigin.start(behaviour);

    expect((await readAll(await openFrom(origin))).equals(BYTES)).toBe(true);
    expect(rangesOf(origin)).toEqual(["all"]);
  });

  it("uses a single connection when that is configured", async () => {
    const origin = await HostileOrigin.start(withRanges);

    expect((await readAll(await openFrom(origin, {}, { connections: 1 }))).equals(BYTES)).toBe(
      true,
    );
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
      "does not support ranges after all",
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
      "returns more bytes than requested",
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
  ])("continues over one connection when the origin %s", async (how, behaviour) => {
    const origin = await HostileOrigin.start(wrongAt(2, behaviour));
    const options = how === "stalls" ? { idleTimeoutMs: 1_000 } : {};

    expect((await readAll(await openFrom(origin, {}, options))).equals(BYTES)).toBe(true);
    expect(rangesOf(origin)).toContainEqual(expect.stringMatching(/^bytes=\d+-$/));
  });

  it("does not join two states of a resource", async () => {
    const others = randomBytes(BYTES.length);
    const origin = await HostileOrigin.start(async (exchange) => {
      const isFirst = exchange.earlier === 0;
      await exchange.send(isFirst ? wantedOf(exchange) : wantedOf(exchange, others, '"two"'));
    });

    expect(await failureOf(openFrom(origin).then(readAll))).toMatchObject({
      code: "SourceUnavailable",
    });
  });

  it("is refused when more bytes than promised follow the last range", async () => {
    const origin = await HostileOrigin.start(
      wrongAt(5, async (exchange) => {
        await exchange.send(Buffer.concat([wantedOf(exchange), Buffer.from("more")]));
      }),
    );

    expect(await failureOf(openFrom(origin).then(readAll))).toMatchObject({
      code: "SourceRefused",
    });
  });

  it("does not take a message to an idle connection for bytes of the image", async () => {
    const events = new EventEmitter();
    const allAsked = once(events, "all asked");
    const idleEnded = once(events, "idle ended");
    const target = await HostileOrigin.start(async (exchange) => {
      if (exchange.earlier === CONNECTIONS - 1) events.emit("all asked");
      const wanted = wantedOf(exchange);
      await exchange.send(wanted.subarray(0, 10));
      if (exchange.earlier === 0) await idleEnded;
      await exchange.send(wanted.subarray(10));
    });
    const origin = await HostileOrigin.start(async (exchange) => {
      exchange.head(302, { location: target.url(), "content-length": 0 });
      // The client uses this connection again until it has requested as many ranges as it may.
      if (exchange.earlier !== CONNECTIONS - 1) return;
      await allAsked;
      exchange.head(408, { "content-length": 0 });
      await exchange.gone();
      events.emit("idle ended");
    });
    const download = await openFrom(origin, {}, { ports: [origin.port, target.port] });

    expect((await readAll(download)).equals(BYTES)).toBe(true);
  });

  it.each(["is aborted", "is disposed of"])("ends all connections when it %s", async (how) => {
    const origin = await HostileOrigin.start(async (exchange) => {
      await exchange.send(wantedOf(exchange).subarray(0, 100_000));
      await exchange.gone();
    });
    const controller = new AbortController();
    const reason = new Error("Enough");
    const download = await openFrom(origin, { signal: controller.signal });
    await download.read(Buffer.alloc(1000));
    await vi.waitUntil(() => origin.exchanges.length === CONNECTIONS, PATIENCE);

    if (how === "is aborted") {
      controller.abort(reason);
      await expect(readAll(download)).rejects.toBe(reason);
    } else {
      await download[Symbol.asyncDispose]();
    }

    await vi.waitUntil(() => origin.exchanges.every(({ isOpen }) => !isOpen), PATIENCE);
  });
});

/** The header that requests a range by its index. */
function rangeNumber(number: number): string {
  const last = Math.min((number + 1) * RANGE_BYTES, BYTES.length) - 1;
  return `bytes=${String(number * RANGE_BYTES)}-${String(last)}`;
}
