import type { LookupAddress } from "node:dns";
import { EventEmitter, once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { Readable } from "node:stream";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { NameLookup } from "../../src/sources/checked-connector.ts";
import { openWebSource } from "../../src/sources/open-web-source.ts";
import { RANGE_BYTES } from "../../src/sources/side-by-side.ts";
import type { DownloadOrder, WebDownload } from "../../src/sources/web-download.ts";
import { WebSource, type WebSourceSettings } from "../../src/sources/web-source.ts";
import { failureOf } from "../support/failure-of.ts";
import {
  honest,
  HostileOrigin,
  sendUpTo,
  type Behaviour,
  type Exchange,
} from "../support/hostile-origin.ts";
import { ORIGIN_CERTIFICATE } from "../support/origin-certificate.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const BYTES = Buffer.from("the bytes of an image");

const SETTINGS: WebSourceSettings = {
  schemes: ["http", "https"],
  ports: [80, 443],
  allowedNetworks: ["127.0.0.0/8"],
  allowedHosts: [],
  deniedHosts: [],
  connectTimeoutMs: 20_000,
  headerTimeoutMs: 20_000,
  idleTimeoutMs: 20_000,
  minimumRate: 1,
};

async function open(url: string, settings: Partial<WebSourceSettings>): Promise<WebDownload> {
  const web = new WebSource({ ...SETTINGS, ...settings });
  const download = await web.open({ url, maxBytes: 1000, signal: new AbortController().signal });
  onTestFinished(() => download[Symbol.asyncDispose]());
  return download;
}

async function read(download: WebDownload): Promise<Buffer> {
  return buffer(Readable.from(piecesOf(download)));
}

async function* piecesOf(download: WebDownload): AsyncGenerator<Buffer> {
  for (;;) {
    const piece = Buffer.alloc(5);
    const lengthBytes = await download.read(piece);
    if (lengthBytes === 0) return;
    yield piece.subarray(0, lengthBytes);
  }
}

/**
 * A name service that returns the next of these results to each lookup, and repeats the last one.
 */
function answering(...answers: readonly string[][]) {
  let asked = 0;
  const lookup: NameLookup = (_host, _options, done) => {
    const addresses = answers[Math.min(asked, answers.length - 1)] ?? [];
    asked += 1;
    done(null, addresses.map(addressOf));
  };
  return vi.fn(lookup);
}

function addressOf(address: string): LookupAddress {
  return { address, family: address.includes(":") ? 6 : 4 };
}

describe("open() of a name", () => {
  it("resolves it once, and connects to the checked address", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const lookup = answering(["127.0.0.1"], ["10.0.0.1"]);

    const download = await open(origin.url("/", "origin.example"), {
      ports: [origin.port],
      lookup,
    });

    expect(await read(download)).toEqual(BYTES);
    expect(lookup).toHaveBeenCalledTimes(1);
    expect(origin.requests[0]?.headers["host"]).toBe(`origin.example:${String(origin.port)}`);
  });

  it.each([
    ["only a private one", ["10.0.0.1"]],
    ["a private one beside others", ["127.0.0.1", "10.0.0.1"]],
    ["a private one of IPv6", ["127.0.0.1", "fd00::1"]],
    ["a metadata service", ["169.254.169.254"]],
    ["one that is hidden in IPv6", ["::ffff:10.0.0.1"]],
  ])("is refused when its addresses are %s", async (_, addresses) => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const settings = { ports: [origin.port], lookup: answering(addresses) };

    expect(await failureOf(open(origin.url("/", "origin.example"), settings))).toMatchObject({
      code: "SourceForbidden",
    });
    expect(origin.requests).toEqual([]);
  });

  it("checks its addresses again after a redirect", async () => {
    const origin = await HostileOrigin.start(async (exchange) => {
      // Not on the open connection, whose address was checked.
      exchange.head(302, { location: "/again", "content-length": 0, connection: "close" });
      exchange.end();
    });
    const settings = { ports: [origin.port], lookup: answering(["127.0.0.1"], ["10.0.0.1"]) };

    expect(await failureOf(open(origin.url("/", "origin.example"), settings))).toMatchObject({
      code: "SourceForbidden",
    });
    expect(origin.requests).toHaveLength(1);
  });

  it("checks its addresses again after a connection broke", async () => {
    const origin = await HostileOrigin.start(async (exchange) => {
      await sendUpTo(exchange, BYTES, 10);
      exchange.end();
    });
    const lookup = answering(["127.0.0.1"], ["10.0.0.1"]);
    const url = origin.url("/", "origin.example");
    const download = await open(url, { ports: [origin.port], lookup });

    expect(await failureOf(read(download))).toMatchObject({ code: "SourceForbidden" });
    expect(origin.requests).toHaveLength(1);
  });

  it("is refused permanently when the name does not exist", async () => {
    const lookup: NameLookup = (_host, _options, done) => {
      done(Object.assign(new Error("getaddrinfo ENOTFOUND"), { code: "ENOTFOUND" }));
    };

    expect(await failureOf(open("http://missing.example/", { lookup }))).toMatchObject({
      code: "SourceRefused",
    });
    expect(await failureOf(open("http://none.example/", { lookup: answering([]) }))).toMatchObject({
      code: "SourceRefused",
    });
  });

  it("is retried when the name service is unreachable", async () => {
    const lookup: NameLookup = (_host, _options, done) => {
      done(Object.assign(new Error("getaddrinfo EAI_AGAIN"), { code: "EAI_AGAIN" }));
    };

    expect(await failureOf(open("http://origin.example/", { lookup }))).toMatchObject({
      code: "SourceUnavailable",
    });
  });
});

describe("open() of an address", () => {
  it.each(["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.1", "[::ffff:127.0.0.1]"])(
    "is refused as %s when its network is not allowed",
    async (host) => {
      const origin = await HostileOrigin.start(honest(BYTES));
      const settings = { ports: [origin.port], allowedNetworks: [] };

      expect(await failureOf(open(origin.url("/", host), settings))).toMatchObject({
        code: "SourceForbidden",
      });
      expect(origin.requests).toEqual([]);
    },
  );

  it("is retried when no program listens there", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const url = origin.url();
    const settings = { ports: [origin.port] };
    await origin.stop();

    expect(await failureOf(open(url, settings))).toMatchObject({
      code: "SourceUnavailable",
      message: expect.stringContaining("no program listens on that port") as string,
      hint: expect.stringContaining("Check the host and port of the URL") as string,
    });
  });

  it("does not use a proxy of the environment", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    vi.stubEnv("HTTP_PROXY", "http://127.0.0.1:1").stubEnv("http_proxy", "http://127.0.0.1:1");
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });

    expect(await read(await open(origin.url(), { ports: [origin.port] }))).toEqual(BYTES);
  });
});

describe("open() over TLS", () => {
  const { cert } = ORIGIN_CERTIFICATE;
  const tls = { tls: ORIGIN_CERTIFICATE };

  it("trusts the configured authorities", async () => {
    const origin = await HostileOrigin.start(honest(BYTES), tls);
    const settings = { ports: [origin.port], authorities: cert };

    expect(await read(await open(origin.url(), settings))).toEqual(BYTES);
  });

  it("is refused permanently when the certificate is not trusted, or has another name", async () => {
    const origin = await HostileOrigin.start(honest(BYTES), tls);
    const ports = [origin.port];
    const elsewhere = { ports, authorities: cert, lookup: answering(["127.0.0.1"]) };

    expect(await failureOf(open(origin.url(), { ports }))).toMatchObject({ code: "SourceRefused" });
    expect(await failureOf(open(origin.url("/", "other.example"), elsewhere))).toMatchObject({
      code: "SourceRefused",
    });
    expect(origin.requests).toEqual([]);
  });

  it("reports a server without TLS, with a way out", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;

    const failure = failureOf(open(`https://127.0.0.1:${String(port)}/`, { ports: [port] }));

    expect(await failure).toMatchObject({
      code: "SourceRefused",
      message: expect.stringContaining("the server does not use TLS at that port") as string,
      hint: expect.stringContaining("http://") as string,
    });
  });

  it("proposes https when a server of TLS is called with http", async () => {
    const origin = await HostileOrigin.start(honest(BYTES), tls);
    const url = origin.url().replace("https:", "http:");

    expect(await failureOf(open(url, { ports: [origin.port] }))).toMatchObject({
      hint: expect.stringContaining("https://") as string,
    });
  });

  it("says why it cannot read the file of authorities", async () => {
    const caFile = join(makeTemporaryDirectory(), "none.pem");
    const files = { caFile, proxyUrl: undefined, proxyCredentialsFile: undefined, noProxy: [] };

    expect(await failureOf(openWebSource({ ...SETTINGS, ...files }))).toMatchObject({
      code: "BadConfiguration",
      message: `Cannot read the file "${caFile}" of \`sources.web.ca_file\`: ENOENT: no such file or directory, open '${caFile}'`,
    });
  });

  it("names the setting of authorities, and the hosts of a certificate for other hosts", async () => {
    const origin = await HostileOrigin.start(honest(BYTES), tls);
    const ports = [origin.port];
    const elsewhere = { ports, authorities: cert, lookup: answering(["127.0.0.1"]) };

    expect(await failureOf(open(origin.url(), { ports }))).toMatchObject({
      message: expect.stringContaining("an authority that the worker does not trust") as string,
      hint: expect.stringContaining("`sources.web.ca_file`") as string,
    });
    expect(await failureOf(open(origin.url("/", "other.example"), elsewhere))).toMatchObject({
      message: expect.stringMatching(/for other hosts .*origin\.example/) as string,
    });
  });

  it("refuses a redirect from https to http, and follows one to https", async () => {
    const plain = await HostileOrigin.start(honest(BYTES));
    const to =
      (location: string): Behaviour =>
      async (exchange) => {
        exchange.head(301, { location, "content-length": 0 });
      };
    const down = await HostileOrigin.start(to(plain.url()), tls);
    const safe = await HostileOrigin.start(honest(BYTES), tls);
    const up = await HostileOrigin.start(to(safe.url()));
    const ports = [plain.port, down.port, safe.port, up.port];

    expect(await failureOf(open(down.url(), { ports, authorities: cert }))).toMatchObject({
      code: "SourceRefused",
    });
    expect(plain.requests).toEqual([]);
    expect(await read(await open(up.url(), { ports, authorities: cert }))).toEqual(BYTES);
  });
});

describe("open() of an origin that redirects", () => {
  const HEAD = { "content-length": 0 };

  it("does not take bytes behind the redirect for bytes of the image", async () => {
    const origin = await HostileOrigin.start(async (exchange) => {
      if (exchange.earlier > 0) return honest(BYTES)(exchange);
      exchange.head(302, { location: "/again", ...HEAD });
      await exchange.send("It was moved");
    });

    expect(await read(await open(origin.url(), { ports: [origin.port] }))).toEqual(BYTES);
  });

  it("does not take a message to its idle connection for bytes of the image", async () => {
    const events = new EventEmitter();
    const halfSent = once(events, "half sent");
    const idleEnded = once(events, "idle ended");
    const target = await HostileOrigin.start(async (exchange) => {
      exchange.head(200, { "content-length": BYTES.length });
      await exchange.send(BYTES.subarray(0, 10));
      events.emit("half sent");
      await idleEnded;
      await exchange.send(BYTES.subarray(10));
    });
    const origin = await HostileOrigin.start(async (exchange) => {
      exchange.head(302, { location: target.url(), ...HEAD });
      await halfSent;
      exchange.head(408, HEAD);
      await exchange.gone();
      events.emit("idle ended");
    });

    const download = await open(origin.url(), { ports: [origin.port, target.port] });

    expect(await read(download)).toEqual(BYTES);
  });
});

describe("open() with a token", () => {
  it("sends it to the origin of the URL, and to no other on the way", async () => {
    const other = await HostileOrigin.start(async (exchange) => {
      exchange.head(302, { location: first.url("/back"), "content-length": 0 });
    });
    const first = await HostileOrigin.start(async (exchange) => {
      if (exchange.request.path === "/back") return honest(BYTES)(exchange);
      exchange.head(302, { location: other.url(), "content-length": 0 });
    });
    const web = new WebSource({ ...SETTINGS, ports: [first.port, other.port] });
    const { signal } = new AbortController();
    await using source = await web.open({
      url: first.url(),
      token: "s3cret-token",
      maxBytes: 2 * BYTES.length,
      signal,
    });

    expect(await read(source)).toEqual(BYTES);
    const sent = [first, other].map(({ requests }) =>
      requests.map(({ headers }) => headers["x-auth-token"]),
    );
    expect(sent).toEqual([["s3cret-token", "s3cret-token"], [undefined]]);
  });
});

describe("read() over several connections", () => {
  const bytes = Buffer.alloc(3 * RANGE_BYTES + 17, "image");

  const sendAll = async (exchange: Exchange, etag = '"one"'): Promise<void> => {
    const head = { "accept-ranges": "bytes", etag, "content-length": bytes.length };
    exchange.head(200, head);
    await exchange.send(bytes);
  };

  async function download(
    behaviour: Behaviour,
    more: Partial<DownloadOrder> = {},
  ): Promise<{ readonly failure: unknown; readonly fallBack: string }> {
    const origin = await HostileOrigin.start(behaviour);
    const web = new WebSource({ ...SETTINGS, ports: [origin.port], connections: 2 });
    const { signal } = new AbortController();
    const order = { url: origin.url(), maxBytes: 2 * bytes.length, signal, ...more };
    await using source = await web.open(order);
    const piece = Buffer.alloc(RANGE_BYTES);
    try {
      while ((await source.read(piece)) > 0);
      return { failure: undefined, fallBack: source.fallBack };
    } catch (failure) {
      return { failure, fallBack: source.fallBack };
    }
  }

  const UNFIT: readonly (readonly [string, Behaviour])[] = [
    [
      "sends a new ETag with each response",
      (exchange) => sendAll(exchange, `"${exchange.earlier}"`),
    ],
    ["announces ranges, but does not support them", (exchange) => sendAll(exchange)],
    [
      "states another length with each range",
      async (exchange) => {
        const { from, to = bytes.length } = exchange;
        if (from === undefined) return sendAll(exchange);
        exchange.head(206, {
          etag: '"one"',
          "content-length": to - from,
          "content-range": `bytes ${from}-${to - 1}/${bytes.length + 1 + exchange.earlier}`,
        });
        await exchange.send(bytes.subarray(from, to));
      },
    ],
    [
      "forbids ranges",
      async (exchange) => {
        if (exchange.from === undefined) return sendAll(exchange);
        exchange.head(403, { "content-length": 0 });
      },
    ],
    [
      "refuses every connection beside the first",
      async (exchange) => {
        if (exchange.from === undefined) return sendAll(exchange);
        exchange.head(429, { "content-length": 0 });
      },
    ],
  ];

  it.each(UNFIT)("can be retried with one response when the origin %s", async (_, unfit) => {
    const several = await download(unfit);
    const single = await download(unfit, { singleConnection: true });

    expect(several).toMatchObject({ failure: { retryable: true }, fallBack: "afresh" });
    expect(single).toEqual({ failure: undefined, fallBack: "none" });
  });
});
