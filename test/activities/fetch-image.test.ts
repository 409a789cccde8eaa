import { createHash, randomBytes } from "node:crypto";
import { crc32, gzipSync } from "node:zlib";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { inspect } from "node:util";
import { sql } from "drizzle-orm";
import { describe, expect, it, vi } from "vitest";
import type { Digests } from "../../src/domain/digests.ts";
import type { ImportFailureCode } from "../../src/domain/import-failure.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { sweepNode } from "../../src/activities/sweep-node.ts";
import { SealingKeys } from "../../src/sources/sealing-keys.ts";
import { RANGE_BYTES } from "../../src/sources/side-by-side.ts";
import { useCatalogue } from "../support/catalogue.ts";
import type { ImportError } from "../../src/domain/import-failure.ts";
import { breakDatabase, nowAndThen, type BrokenDatabase } from "../support/broken-database.ts";
import { failureOf } from "../support/failure-of.ts";
import {
  beginAnswer,
  honest,
  HostileOrigin,
  sendUpTo,
  type Behaviour,
  type Exchange,
} from "../support/hostile-origin.ts";
import { limitsOf } from "../support/limited-owner.ts";
import { MIB } from "../support/mib.ts";
import {
  activityEnvironment,
  openNode,
  runStep,
  someBytes,
  type NodeRig,
  type NodeRigOptions,
} from "../support/node-rig.ts";
import { MAY_MOUNT, mountSmallVolume } from "../support/volume.ts";
import { PATIENCE } from "../support/patience.ts";
import { dropLease } from "../../src/db/lease-records.ts";

const catalogue = useCatalogue();

const SIZE_BYTES = 3 * MIB + 17;
const BYTES = someBytes(SIZE_BYTES);
const AT_60_PERCENT = Math.floor(SIZE_BYTES * 0.6);

// A broken connection loses the bytes that had arrived and were not read yet.
const ON_ITS_WAY_BYTES = 256 * 1024;

// Short, so that a wait for nothing fails soon. Only for origins that are to fail in this way: on a
// busy machine any answer may come later.
const IMPATIENT = {
  connectTimeoutMs: 1_000,
  headerTimeoutMs: 500,
  idleTimeoutMs: 700,
  minimumRate: 64 * 1024,
};

/** A node whose downloads may reach this origin, and nothing else. */
async function nodeFor(origin: HostileOrigin, options: NodeRigOptions = {}): Promise<NodeRig> {
  const web = { ports: [origin.port], allowedNetworks: ["127.0.0.0/8"] };
  return openNode(catalogue, { ...options, web: { ...web, ...options.web } });
}

function digestsOf(bytes: Buffer): Digests {
  return {
    checksum: createHash("md5").update(bytes).digest("hex"),
    osHashAlgo: "sha512",
    osHashValue: createHash("sha512").update(bytes).digest("hex"),
    crc32: crc32(bytes),
    sizeBytes: bytes.length,
  };
}

async function makeAliasedStaging(directory: string): Promise<string> {
  await mkdir(join(directory, "staging"));
  await symlink(join(directory, "staging"), join(directory, "alias"));
  return pathToFileURL(join(directory, "alias")).href;
}

/** Everything that an import may leave behind. */
async function traces(rig: NodeRig, imageId: string) {
  const { status, claimTaskId } = await catalogue.image(imageId);
  return {
    status,
    claimTaskId,
    staging: await rig.names("staging"),
    row: await catalogue.staged(imageId),
  };
}

const NOTHING = { status: "queued", claimTaskId: null, staging: [], row: undefined };

const PRIVATE_ADDRESSES = [
  "127.0.0.2",
  "127.2",
  "2130706434",
  "0x7f.2",
  "0177.2",
  "[::1]",
  "[::ffff:127.0.0.2]",
  "[::ffff:a9fe:a9fe]",
  "[64:ff9b::a9fe:a9fe]",
  "[2002:a9fe:a9fe::]",
  "0.0.0.0",
  "169.254.169.254",
  "[fd00::1]",
  "100.64.0.1",
  "10.0.0.1",
];

/** Answers with chunks and no length. */
function chunked(send: Behaviour): Behaviour {
  return async (exchange) => {
    exchange.head(200, { "transfer-encoding": "chunked" });
    await send(exchange);
  };
}

/** Waits until the source of a download is recorded, right before its first byte is written. */
async function begun(imageId: string): Promise<void> {
  const isBegun = async () => (await catalogue.staged(imageId))?.fetchedFrom != null;
  await vi.waitUntil(isBegun, PATIENCE);
}

/** Answers with a head of its own, and all bytes. */
function withHead(status: number, headers: Record<string, string | number>): Behaviour {
  return async (exchange) => {
    exchange.head(status, headers);
    await exchange.send(BYTES);
    exchange.end();
  };
}

function redirecting(location: string, status = 302): Behaviour {
  return async (exchange) => {
    exchange.head(status, { location, "content-length": 0 });
  };
}

function failing(status: number, headers: Record<string, string | number> = {}): Behaviour {
  return async (exchange) => {
    exchange.head(status, { "content-length": 0, ...headers });
  };
}

/** Goes wrong once, and then behaves. */
function once(behaviour: Behaviour, then = honest(BYTES)): Behaviour {
  return async (exchange) => (exchange.earlier === 0 ? behaviour : then)(exchange);
}

const dropsAt60Percent: Behaviour = async (exchange) => {
  await sendUpTo(exchange, BYTES, AT_60_PERCENT);
  exchange.end();
};

const stallsAt99Percent: Behaviour = async (exchange) => {
  await sendUpTo(exchange, BYTES, Math.floor(SIZE_BYTES * 0.99));
  await exchange.gone();
};

describe("fetchImage() from an origin that is odd, but sends all bytes", () => {
  it.each<[string, Behaviour, number]>([
    ["has ranges and a strong validator", honest(BYTES), 1],
    [
      "has neither ranges nor a validator",
      withHead(200, { "content-length": SIZE_BYTES, "accept-ranges": "none" }),
      1,
    ],
    [
      "sends chunks and no length",
      chunked(async (exchange) => {
        await exchange.chunk(BYTES.subarray(0, 1000));
        await exchange.chunk(BYTES.subarray(1000));
        await exchange.send("0\r\n\r\n");
      }),
      1,
    ],
    ["drops the connection at 60 %", once(dropsAt60Percent), 2],
    [
      "breaks the connection at 60 %",
      once(async (exchange) => {
        await sendUpTo(exchange, BYTES, AT_60_PERCENT);
        exchange.reset();
      }),
      2,
    ],
    ["stalls at 99 %, once", once(stallsAt99Percent), 2],
    [
      "continues by the time of the last change",
      async (exchange) => {
        const modified = "Mon, 02 Nov 2026 10:00:00 GMT";
        const dates = { "last-modified": modified, date: "Mon, 02 Nov 2026 12:00:00 GMT" };
        const from = exchange.from ?? 0;
        exchange.head(exchange.from === undefined ? 200 : 206, {
          ...dates,
          "content-length": SIZE_BYTES - from,
          ...(exchange.request.headers["if-range"] === modified
            ? {
                "content-range": `bytes ${String(from)}-${String(SIZE_BYTES - 1)}/${String(SIZE_BYTES)}`,
              }
            : {}),
        });
        await exchange.send(
          BYTES.subarray(from, exchange.earlier === 0 ? AT_60_PERCENT : undefined),
        );
        exchange.end();
      },
      2,
    ],
    [
      "redirects five times",
      async (exchange) => {
        const hop = Number(exchange.request.path.slice(1)) || 0;
        if (hop === 5) await honest(BYTES)(exchange);
        else await redirecting(`/${String(hop + 1)}`, 301 + (hop % 3))(exchange);
      },
      6,
    ],
  ])("downloads all bytes when the origin %s", async (_, behaviour, requests) => {
    const origin = await HostileOrigin.start(behaviour);
    const rig = await nodeFor(origin, { web: { idleTimeoutMs: 5_000 } });
    const plan = await rig.claimForFetch();

    const fetched = await rig.fetch(plan, origin.url());

    const digests = digestsOf(BYTES);
    expect(fetched).toEqual({
      size: SIZE_BYTES,
      digests,
      uri: pathToFileURL(await rig.fetchedPath(plan.image_id)).href,
    });
    expect((await readFile(await rig.fetchedPath(plan.image_id))).equals(BYTES)).toBe(true);
    expect(await rig.names("staging")).toEqual([
      expect.stringMatching(`^${plan.image_id}\\.1\\.[0-9a-f]{8}\\.product$`),
    ]);
    expect(origin.requests).toHaveLength(requests);
    expect(origin.requests.every(({ method }) => method === "GET")).toBe(true);
  });

  it("continues without a length while the catalogue is unreachable now and then", async () => {
    let broken: BrokenDatabase | undefined;
    let imageId = "";
    const origin = await HostileOrigin.start(
      chunked(async (exchange) => {
        await exchange.chunk(BYTES.subarray(0, 1000));
        await begun(imageId);
        broken = breakDatabase(catalogue.database, nowAndThen);
        await exchange.chunk(BYTES.subarray(1000));
        await exchange.send("0\r\n\r\n");
      }),
    );
    const limits = limitsOf({ image_stage_total: 1024 ** 4 });
    const rig = await nodeFor(origin, { limits, web: { idleTimeoutMs: 60_000 } });
    const plan = await rig.claimForFetch();
    imageId = plan.image_id;

    const fetched = await rig.fetch(plan, origin.url());

    expect(fetched.digests).toEqual(digestsOf(BYTES));
    expect(origin.requests).toHaveLength(1);
    expect(broken?.failures()).toBeGreaterThan(1);
  });

  it("does not wait for the catalogue where no quota could stop it", async () => {
    // More than the connection takes before it is read.
    const bytes = someBytes(24 * MIB);
    let imageId = "";
    const origin = await HostileOrigin.start(
      chunked(async (exchange) => {
        await exchange.chunk(bytes.subarray(0, 1000));
        await begun(imageId);
        const { mend } = breakDatabase(catalogue.database, () => true);
        await exchange.chunk(bytes.subarray(1000));
        mend();
        await exchange.send("0\r\n\r\n");
      }),
    );
    const rig = await nodeFor(origin, { web: { idleTimeoutMs: 60_000 } });
    const plan = await rig.claimForFetch();
    imageId = plan.image_id;

    expect(await rig.fetch(plan, origin.url())).toMatchObject({ digests: digestsOf(bytes) });
    expect(origin.requests).toHaveLength(1);
  });

  it("requests only the missing bytes after a drop at 60 %", async () => {
    const origin = await HostileOrigin.start(once(dropsAt60Percent));
    const rig = await nodeFor(origin);

    await rig.fetch(await rig.claimForFetch(), origin.url());

    expect(origin.sentBytes).toBeLessThanOrEqual(SIZE_BYTES + ON_ITS_WAY_BYTES);
    expect(origin.requests[1]?.headers["if-range"]).toBe('"one"');
  });

  it("downloads over several connections, and the rest over one connection when those break", async () => {
    const bytes = someBytes(3 * RANGE_BYTES + 17);
    const origin = await HostileOrigin.start(async (exchange) => {
      const start = beginAnswer(exchange, bytes, '"one"', { "accept-ranges": "bytes" });
      const breaks = exchange.earlier < 3 && start === 2 * RANGE_BYTES;
      await exchange.send(bytes.subarray(start, breaks ? start + 1000 : exchange.to));
      if (breaks) exchange.reset();
    });
    const rig = await nodeFor(origin, { web: { connections: 3 } });
    const plan = await rig.claimForFetch();

    const { digests } = await rig.fetch(plan, origin.url());

    expect(digests).toEqual(digestsOf(bytes));
    expect((await readFile(await rig.fetchedPath(plan.image_id))).equals(bytes)).toBe(true);
    const ranges = origin.requests.map(({ headers }) => headers["range"]);
    expect(ranges).toContain(`bytes=${String(RANGE_BYTES)}-${String(2 * RANGE_BYTES - 1)}`);
    expect(ranges).toContainEqual(expect.stringMatching(/^bytes=\d+-$/));
  });

  describe("from an origin that is not fit for several connections", () => {
    const bytes = someBytes(3 * RANGE_BYTES + 17);
    const ranges = { "accept-ranges": "bytes" };
    const rangeHead = (exchange: Exchange, etag: string, sizeBytes: number): void => {
      const { from = 0, to = bytes.length } = exchange;
      exchange.head(206, {
        etag,
        "content-length": to - from,
        "content-range": `bytes ${String(from)}-${String(to - 1)}/${String(sizeBytes)}`,
      });
    };
    const sendAll = async (exchange: Exchange, etag: string): Promise<void> => {
      exchange.head(200, { ...ranges, etag, "content-length": bytes.length });
      await exchange.send(bytes);
    };

    it.each<readonly [string, Behaviour]>([
      [
        "sends a new ETag with each answer",
        async (exchange) => {
          await sendAll(exchange, `"${String(exchange.earlier)}"`);
        },
      ],
      [
        "sends a new ETag with each range",
        async (exchange) => {
          const etag = `"${String(exchange.earlier)}"`;
          if (exchange.from === undefined) return sendAll(exchange, etag);
          rangeHead(exchange, etag, bytes.length);
          await exchange.send(bytes.subarray(exchange.from, exchange.to));
        },
      ],
      ["announces ranges and has none", async (exchange) => sendAll(exchange, '"one"')],
      [
        "reports another length with each range",
        async (exchange) => {
          if (exchange.from === undefined) return sendAll(exchange, '"one"');
          rangeHead(exchange, '"one"', bytes.length + 1 + exchange.earlier);
          await exchange.send(bytes.subarray(exchange.from, exchange.to));
        },
      ],
      [
        "refuses every connection beside the first",
        async (exchange) => {
          if (exchange.from === undefined) return sendAll(exchange, '"one"');
          exchange.head(429, { "content-length": 0 });
        },
      ],
      [
        "forbids ranges",
        async (exchange) => {
          if (exchange.from === undefined) return sendAll(exchange, '"one"');
          exchange.head(403, { "content-length": 0 });
        },
      ],
    ])("uses one connection from the next attempt on when the origin %s", async (_, behaviour) => {
      const origin = await HostileOrigin.start(behaviour);
      const rig = await nodeFor(origin, { web: { connections: 2 } });
      const plan = await rig.claimForFetch();
      const failures: unknown[] = [];
      let fetched;
      for (let attempt = 1; fetched === undefined && attempt <= 3; attempt += 1) {
        const environment = activityEnvironment({ attempt });
        fetched = await rig.fetch(plan, origin.url(), environment).catch((error: unknown) => {
          failures.push(error);
          return undefined;
        });
      }

      expect(failures.filter((failure) => (failure as ImportError).retryable)).toEqual(failures);
      expect(fetched?.digests).toEqual(digestsOf(bytes));
      expect((await readFile(await rig.fetchedPath(plan.image_id))).equals(bytes)).toBe(true);
    });
  });

  it("can be imported when the staging root is reached through a symbolic link", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const rig = await nodeFor(origin, { makeStaging: makeAliasedStaging });
    const plan = await rig.claimForFetch();

    const { uri, digests } = await rig.fetch(plan, origin.url());

    expect(await rig.verify({ ...plan, uri })).toMatchObject({ digests });
  });

  it("sends no secret to the target of a redirect", async () => {
    const other = await HostileOrigin.start(honest(BYTES));
    const origin = await HostileOrigin.start(redirecting(other.url()));
    const rig = await nodeFor(origin, { web: { ports: [origin.port, other.port] } });

    await rig.fetch(await rig.claimForFetch(), origin.url("/disk.img?signature=s3cret"));

    expect(Object.keys(other.requests[0]?.headers ?? {}).sort()).toEqual([
      "accept-encoding",
      "connection",
      "host",
      "user-agent",
    ]);
    expect(inspect(other.requests)).not.toContain("s3cret");
  });
});

/** An origin that starts again with another image at each request, and breaks off. */
function changing(): Behaviour {
  return async (exchange) => {
    await sendUpTo(exchange, BYTES, AT_60_PERCENT, `"${String(exchange.earlier)}"`);
    exchange.end();
  };
}

describe("fetchImage() from an origin that is hostile", () => {
  it.each<[string, Behaviour, ImportFailureCode]>([
    [
      "promises a byte more than it has",
      async (exchange) => {
        const size = SIZE_BYTES + 1;
        if (exchange.from === undefined) {
          exchange.head(200, { "content-length": size, etag: '"one"' });
          await exchange.send(BYTES);
        } else {
          beginAnswer(exchange, BYTES);
        }
        exchange.end();
      },
      "SourceRefused",
    ],
    [
      "sends a byte more than it promises",
      withHead(200, { "content-length": SIZE_BYTES - 1 }),
      "SourceRefused",
    ],
    ["does not say where it ends", withHead(200, {}), "SourceRefused"],
    [
      "promises a length that is not a number",
      withHead(200, { "content-length": "0x10" }),
      "SourceRefused",
    ],
    [
      "promises two lengths",
      async (exchange) => {
        await exchange.send(
          "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\nhello",
        );
        exchange.end();
      },
      "SourceRefused",
    ],
    [
      "promises a length and sends chunks",
      async (exchange) => {
        exchange.head(200, { "content-length": 9, "transfer-encoding": "chunked" });
        await exchange.chunk(Buffer.from("hello"));
        await exchange.send("0\r\n\r\n");
      },
      "SourceRefused",
    ],
    [
      "sends chunks without an end",
      chunked(async (exchange) => {
        while (exchange.isOpen) await exchange.chunk(BYTES);
      }),
      "SourceTooLarge",
    ],
    [
      "promises more than an image may have",
      withHead(200, { "content-length": 9 * MIB }),
      "SourceTooLarge",
    ],
    [
      "breaks chunks off",
      chunked(async (exchange) => {
        await exchange.chunk(BYTES);
        exchange.end();
      }),
      "SourceUnavailable",
    ],
    [
      "sends bytes that are not chunks",
      chunked(async (exchange) => {
        await exchange.send("not a chunk\r\n");
      }),
      "SourceUnavailable",
    ],
    ["stalls at 99 % each time", stallsAt99Percent, "SourceUnavailable"],
    [
      "sends a byte now and then",
      async (exchange) => {
        beginAnswer(exchange, BYTES);
        while (exchange.isOpen) {
          await exchange.send("x");
          await exchange.pause(100);
        }
      },
      "SourceUnavailable",
    ],
    [
      "resumes at another byte than requested",
      once(dropsAt60Percent, withHead(206, { "content-range": "bytes 0-16/17", etag: '"one"' })),
      "SourceRefused",
    ],
    [
      "continues with more than there is",
      once(dropsAt60Percent, async (exchange) => {
        const from = exchange.from ?? 0;
        const range = `bytes ${String(from)}-${String(SIZE_BYTES)}/${String(SIZE_BYTES)}`;
        exchange.head(206, { "content-range": range, "content-length": SIZE_BYTES + 1 - from });
        await exchange.send(BYTES);
      }),
      "SourceRefused",
    ],
    [
      "sends a range that was not requested",
      withHead(206, { "content-range": "bytes 0-99/100", "content-length": 100 }),
      "SourceRefused",
    ],
    ["changes its data each time", changing(), "SourceUnavailable"],
    [
      "compresses its answer, which was not requested",
      async (exchange) => {
        const body = gzipSync(BYTES);
        exchange.head(200, { "content-length": body.length, "content-encoding": "gzip" });
        await exchange.send(body);
      },
      "SourceRefused",
    ],
    [
      "claims to compress its answer",
      withHead(200, { "content-length": SIZE_BYTES, "content-encoding": "gzip" }),
      "SourceRefused",
    ],
    ["redirects in a circle", redirecting("/disk.img"), "SourceRefused"],
    ["redirects to nowhere", failing(302), "SourceRefused"],
    ["redirects to a file", redirecting("file:///etc/passwd"), "SourceForbidden"],
    ["redirects to FTP", redirecting("ftp://127.0.0.1/disk.img"), "SourceForbidden"],
    ["redirects to gopher", redirecting("gopher://127.0.0.1/_disk"), "SourceForbidden"],
    ["redirects with a password", redirecting("http://me:pass@127.0.0.1/"), "SourceForbidden"],
    ["redirects to another port", redirecting("http://127.0.0.1:6379/"), "SourceForbidden"],
    [
      "floods with headers",
      async (exchange) => {
        await exchange.send("HTTP/1.1 200 OK\r\n");
        while (exchange.isOpen) await exchange.send(`x-flood: ${"y".repeat(500)}\r\n`);
      },
      "SourceRefused",
    ],
    [
      "never ends its headers",
      async (exchange) => {
        await exchange.send("HTTP/1.1 200 OK\r\n");
        while (exchange.isOpen) {
          await exchange.send("x: y\r\n");
          await exchange.pause(200);
        }
      },
      "SourceUnavailable",
    ],
    [
      "answers that it will answer, again and again",
      async (exchange) => {
        while (exchange.isOpen) {
          exchange.head(103);
          await exchange.pause(200);
        }
      },
      "SourceUnavailable",
    ],
    ["sends nothing", (exchange) => exchange.gone(), "SourceUnavailable"],
    [
      "hangs up",
      async (exchange) => {
        exchange.reset();
      },
      "SourceUnavailable",
    ],
    [
      "does not speak HTTP",
      async (exchange) => {
        await exchange.send("SSH-2.0-OpenSSH_9.9\r\n");
      },
      "SourceRefused",
    ],
    ["has no such image", failing(404), "SourceRefused"],
    ["wants to know who asks", failing(401), "SourceRefused"],
    ["forbids access", failing(403), "SourceRefused"],
    ["has no content", failing(204), "SourceRefused"],
    ["is busy", failing(503), "SourceUnavailable"],
    ["is asked too often", failing(429), "SourceUnavailable"],
  ])("fails when the origin %s", async (_, behaviour, code) => {
    const origin = await HostileOrigin.start(behaviour);
    const rig = await nodeFor(origin, {
      limits: { ...NO_LIMITS, imageSizeCapBytes: 8 * MIB },
      web: code === "SourceUnavailable" ? IMPATIENT : {},
    });
    const plan = await rig.claimForFetch();

    expect(await failureOf(rig.fetch(plan, origin.url()))).toMatchObject({ code });

    await rig.discardFetched(plan);
    await rig.release(plan);
    expect(await traces(rig, plan.image_id)).toEqual(NOTHING);
  });

  it.each(PRIVATE_ADDRESSES)("fails when the origin redirects to %s", async (host) => {
    const origin = await HostileOrigin.start(redirecting(`http://${host}/latest/meta-data/`));
    const rig = await nodeFor(origin, {
      web: { ports: [origin.port, 80], allowedNetworks: ["127.0.0.1/32"] },
    });
    const plan = await rig.claimForFetch();

    expect(await failureOf(rig.fetch(plan, origin.url()))).toMatchObject({
      code: "SourceForbidden",
    });

    await rig.discardFetched(plan);
    await rig.release(plan);
    expect(await traces(rig, plan.image_id)).toEqual(NOTHING);
  });

  it("waits as long as the server asks it to", async () => {
    const origin = await HostileOrigin.start(failing(503, { "retry-after": 120 }));
    const rig = await nodeFor(origin);

    const failure = rig.fetch(await rig.claimForFetch(), origin.url());

    expect(await failureOf(failure)).toMatchObject({ retryAfterMs: 120_000 });
  });

  it.each<[string, Behaviour]>([
    ["refuses", failing(403)],
    ["breaks off", dropsAt60Percent],
    [
      "repeats the request in an answer that is not HTTP",
      async (exchange) => {
        await exchange.send(`${exchange.request.path}\r\n\r\n`);
      },
    ],
    [
      "repeats the request in bytes that are not a chunk",
      chunked(async (exchange) => {
        await exchange.send(`${exchange.request.path}\r\n`);
      }),
    ],
    ["leads to an address with another", redirecting("http://10.0.0.1/?sig=s3cret")],
  ])("never shows the query of the URL when the origin %s", async (_, behaviour) => {
    const origin = await HostileOrigin.start(once(behaviour, failing(503)));
    const rig = await nodeFor(origin, { web: { ports: [origin.port, 80] } });
    const plan = await rig.claimForFetch();

    const failure = await rig
      .fetch(plan, origin.url("/disk.img?sig=s3cret"))
      .catch((error: unknown) => inspect(error, { depth: 9 }));

    expect(failure).toContain("ImportError: Cannot ");
    expect(failure).not.toContain("s3cret");
    expect(inspect(await rig.snapshot(plan), { depth: 9 })).not.toContain("s3cret");
  });
});

/** The failures of this number of attempts, made one after another. */
async function endsOf(rig: NodeRig, origin: HostileOrigin, attempts: number) {
  const plan = await rig.claimForFetch();
  const failures: Awaited<ReturnType<typeof failureOf>>[] = [];
  for (let attempt = 1; attempt <= attempts; attempt += 1) {
    const environment = activityEnvironment({ attempt });
    failures.push(await failureOf(rig.fetch(plan, origin.url(), environment)));
  }
  return failures;
}

/** Promises more than it sends, without a validator for a request of the rest. */
function shortAt(atByte: (exchange: Exchange) => number, sizeBytes = SIZE_BYTES): Behaviour {
  return async (exchange) => {
    exchange.head(200, { "content-length": sizeBytes });
    await exchange.send(BYTES.subarray(0, atByte(exchange)));
    exchange.end();
  };
}

const RETRIED = "SourceUnavailable";
const FINAL = "SourceRefused";

describe("fetchImage() from an origin that ends too early each time", () => {
  it.each<[string, Behaviour, ImportFailureCode[], string]>([
    [
      "without a validator, a length that it never reaches",
      shortAt(() => AT_60_PERCENT),
      [RETRIED, FINAL],
      `its connection broke after ${String(AT_60_PERCENT)} of ${String(SIZE_BYTES)} bytes, twice at the same place: `,
    ],
    [
      "without a validator, another length each time",
      async (exchange) => shortAt(() => AT_60_PERCENT, SIZE_BYTES + exchange.earlier)(exchange),
      [RETRIED, FINAL],
      `its connection broke after ${String(AT_60_PERCENT)} of ${String(SIZE_BYTES + 1)} bytes, twice at the same place: `,
    ],
    [
      "chunks without their end",
      chunked(async (exchange) => {
        await exchange.chunk(BYTES);
        exchange.end();
      }),
      [RETRIED, FINAL],
      `its connection broke after ${String(SIZE_BYTES)} bytes, twice at the same place: `,
    ],
    [
      "bytes that are not a chunk",
      chunked(async (exchange) => {
        await exchange.chunk(BYTES);
        await exchange.send("not a chunk\r\n");
      }),
      [RETRIED, FINAL],
      `its connection broke after ${String(SIZE_BYTES)} bytes, twice at the same place: `,
    ],
    [
      "with a validator, and never continues",
      dropsAt60Percent,
      [RETRIED, RETRIED, RETRIED, FINAL],
      `its connection broke after ${String(AT_60_PERCENT)} of ${String(SIZE_BYTES)} bytes, 4 times at the same place: `,
    ],
    [
      "with a validator, and no ranges",
      async (exchange) => {
        exchange.head(200, { "content-length": SIZE_BYTES, etag: '"one"' });
        await exchange.send(BYTES.subarray(0, AT_60_PERCENT));
        exchange.end();
      },
      [RETRIED, RETRIED, RETRIED, FINAL],
      `it changed or cannot be resumed, after its connection broke at byte ${String(AT_60_PERCENT)}, 4 times and got no further`,
    ],
    [
      "with other bytes and another length each time",
      async (exchange) => {
        const bytes = BYTES.subarray(0, SIZE_BYTES - exchange.earlier);
        await sendUpTo(exchange, bytes, AT_60_PERCENT, `"${String(exchange.earlier)}"`);
        exchange.end();
      },
      [RETRIED, RETRIED, RETRIED, FINAL],
      `it changed or cannot be resumed, after its connection broke at byte ${String(AT_60_PERCENT)}, 4 times and got no further`,
    ],
  ])("fails permanently after the last failure: %s", async (_, behaviour, codes, message) => {
    const origin = await HostileOrigin.start(behaviour);
    const rig = await nodeFor(origin);

    const failures = await endsOf(rig, origin, codes.length);

    expect(failures.map(({ code }) => code)).toEqual(codes);
    expect(failures.at(-1)?.message).toContain(`Cannot download ${origin.url()}: ${message}`);
  });

  it("fails permanently also over several connections, when one of them ends too early", async () => {
    const bytes = someBytes(3 * RANGE_BYTES);
    const end = 2 * RANGE_BYTES + 1000;
    const origin = await HostileOrigin.start(async (exchange) => {
      const start = beginAnswer(exchange, bytes, '"one"', { "accept-ranges": "bytes" });
      await exchange.send(bytes.subarray(start, Math.min(exchange.to ?? end, end)));
      if (start !== exchange.from || (exchange.to ?? bytes.length) > end) exchange.end();
    });
    const rig = await nodeFor(origin, { web: { connections: 3 } });

    const failures = await endsOf(rig, origin, 4);

    expect(failures.map(({ code }) => code)).toEqual([RETRIED, RETRIED, RETRIED, FINAL]);
    expect(failures.at(-1)?.message).toContain(`after ${String(end)} of ${String(bytes.length)}`);
  });

  it.each<[string, Behaviour, number]>([
    ["at another byte each time", shortAt(({ earlier }) => AT_60_PERCENT + (earlier % 3)), 5],
    ["at no byte", shortAt(() => 0), 5],
    [
      "because its next byte did not come in time",
      async (exchange) => {
        exchange.head(200, { "content-length": SIZE_BYTES });
        await exchange.send(BYTES.subarray(0, AT_60_PERCENT));
        await exchange.gone();
      },
      3,
    ],
    [
      "further each time, by less than a download needs to resume at once",
      async (exchange) => {
        const reached = Math.min(1000 * (exchange.earlier + 1), SIZE_BYTES);
        await sendUpTo(exchange, BYTES, reached);
        exchange.end();
      },
      6,
    ],
  ])("tries again when it ends %s", async (_, behaviour, attempts) => {
    const origin = await HostileOrigin.start(behaviour);
    const rig = await nodeFor(origin, { web: IMPATIENT });

    const failures = await endsOf(rig, origin, attempts);

    expect(new Set(failures.map(({ code }) => code))).toEqual(new Set([RETRIED]));
  });

  it("counts from the start again when one attempt got further", async () => {
    const further = [AT_60_PERCENT, AT_60_PERCENT + MIB, AT_60_PERCENT, AT_60_PERCENT];
    const origin = await HostileOrigin.start(shortAt(({ earlier }) => further[earlier] ?? 0));
    const rig = await nodeFor(origin);

    const failures = await endsOf(rig, origin, 4);

    expect(failures.map(({ code }) => code)).toEqual([RETRIED, RETRIED, RETRIED, FINAL]);
  });

  it("counts from zero for another import of the same image", async () => {
    const origin = await HostileOrigin.start(shortAt(() => AT_60_PERCENT));
    const rig = await nodeFor(origin);
    const first = await rig.claimForFetch();
    expect(await failureOf(rig.fetch(first, origin.url()))).toMatchObject({ code: RETRIED });
    await rig.release(first);
    const second = await rig.claim(first.image_id, { uri: rig.uri("nothing") });

    expect(await failureOf(rig.fetch(second, origin.url()))).toMatchObject({ code: RETRIED });
  });

  it("does not fail permanently when another attempt has taken over", async () => {
    let ends: () => void = () => undefined;
    const mayEnd = new Promise<void>((resolve) => (ends = resolve));
    const origin = await HostileOrigin.start(async (exchange) => {
      exchange.head(200, { "content-length": SIZE_BYTES });
      await exchange.send(BYTES.subarray(0, AT_60_PERCENT));
      if (exchange.earlier === 1) await mayEnd;
      exchange.end();
    });
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    await failureOf(rig.fetch(plan, origin.url()));
    const late = failureOf(rig.fetch(plan, origin.url(), activityEnvironment({ attempt: 2 })));
    await expect.poll(() => origin.sentBytes, PATIENCE).toBe(2 * AT_60_PERCENT);
    // Another worker takes the row over: it does not know whether this attempt still writes.
    await catalogue.database.query((db) =>
      db.execute(
        sql`UPDATE leases SET token = gen_random_uuid() WHERE image_id = ${plan.image_id}`,
      ),
    );

    ends();

    expect(await late).toMatchObject({ code: "AttemptOvertaken" });
  });
});

describe("fetchImage() after an attempt that ended", () => {
  it("resumes from its part, and requests only the rest", async () => {
    let isAway = true;
    const origin = await HostileOrigin.start(async (exchange) => {
      if (!isAway) return honest(BYTES)(exchange);
      if (exchange.earlier > 0) return failing(503)(exchange);
      return dropsAt60Percent(exchange);
    });
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    expect(await failureOf(rig.fetch(plan, origin.url()))).toMatchObject({
      code: "SourceUnavailable",
    });
    isAway = false;

    const { digests } = await rig.fetch(plan, origin.url());

    expect(digests).toEqual(digestsOf(BYTES));
    expect(origin.sentBytes).toBeLessThanOrEqual(SIZE_BYTES + ON_ITS_WAY_BYTES);
  });

  it("resumes from a part that ends with zeros", async () => {
    const bytes = Buffer.concat([someBytes(MIB), Buffer.alloc(4 * MIB), someBytes(100)]);
    const end = 4 * MIB + 5;
    const origin = await HostileOrigin.start(async (exchange) => {
      if (exchange.earlier === 2) return honest(bytes)(exchange);
      if (exchange.earlier === 1) return failing(503)(exchange);
      await sendUpTo(exchange, bytes, end);
      exchange.end();
    });
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    await failureOf(rig.fetch(plan, origin.url()));

    const { digests } = await rig.fetch(plan, origin.url());

    expect(digests).toEqual(digestsOf(bytes));
    expect((await readFile(await rig.fetchedPath(plan.image_id))).equals(bytes)).toBe(true);
    expect(origin.sentBytes).toBeLessThanOrEqual(bytes.length + ON_ITS_WAY_BYTES);
  });

  it("restarts from byte 0 when the data changed meanwhile", async () => {
    const others = someBytes(SIZE_BYTES + 5);
    const origin = await HostileOrigin.start(once(dropsAt60Percent, honest(others, '"two"')));
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    expect(await failureOf(rig.fetch(plan, origin.url()))).toMatchObject({
      code: "SourceUnavailable",
    });

    expect(await rig.fetch(plan, origin.url())).toMatchObject({ digests: digestsOf(others) });
    expect((await readFile(await rig.fetchedPath(plan.image_id))).equals(others)).toBe(true);
  });

  it("restarts from byte 0 when the origin continues with other data than requested", async () => {
    const others = someBytes(SIZE_BYTES);
    const origin = await HostileOrigin.start(
      once(dropsAt60Percent, async (exchange) => {
        if (exchange.from === undefined) return honest(others, '"two"')(exchange);
        const range = `bytes ${String(exchange.from)}-${String(SIZE_BYTES - 1)}/${String(SIZE_BYTES)}`;
        const length = SIZE_BYTES - exchange.from;
        exchange.head(206, { etag: '"two"', "content-range": range, "content-length": length });
      }),
    );
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    await failureOf(rig.fetch(plan, origin.url()));

    expect(await rig.fetch(plan, origin.url())).toMatchObject({ digests: digestsOf(others) });
  });

  it("restarts from byte 0 when the validator is too weak", async () => {
    const origin = await HostileOrigin.start(async (exchange) => {
      const end = exchange.earlier === 0 ? AT_60_PERCENT : SIZE_BYTES;
      await sendUpTo(exchange, BYTES, end, 'W/"one"');
      exchange.end();
    });
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    await failureOf(rig.fetch(plan, origin.url()));

    expect(await rig.fetch(plan, origin.url())).toMatchObject({ digests: digestsOf(BYTES) });
    expect(origin.requests.some(({ headers }) => "range" in headers)).toBe(false);
  });

  it("has nothing to do when the earlier attempt had finished", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    const first = await rig.fetch(plan, origin.url());

    expect(await rig.fetch(plan, origin.url())).toEqual(first);
    expect(origin.requests).toHaveLength(1);
  });

  it("keeps the part when it is cancelled, as for a pause, and resumes from it", async () => {
    const origin = await HostileOrigin.start(once(stallsAt99Percent));
    const rig = await nodeFor(origin, { web: { idleTimeoutMs: 60_000 } });
    const plan = await rig.claimForFetch();
    const environment = activityEnvironment();
    const beats: unknown[] = [];
    environment.on("heartbeat", (beat) => beats.push(beat));
    const fetching = rig.fetch(plan, origin.url(), environment);
    await rig.awaitPart("staging", 2 * MIB);
    await expect.poll(() => beats.length, PATIENCE).toBeGreaterThan(0);

    environment.cancel();

    await expect(fetching).rejects.toThrow("CANCELLED");
    expect(beats.at(-1)).toMatchObject({ step: "fetch", totalBytes: SIZE_BYTES });
    expect(await rig.names("staging")).toEqual([expect.stringMatching(/\.part$/)]);
    expect(await rig.fetch(plan, origin.url())).toMatchObject({ digests: digestsOf(BYTES) });
    expect(origin.requests[1]?.headers["range"]).toMatch(/^bytes=\d{7}-$/);
  });
});

describe("fetchImage()", () => {
  it("makes a download that the later steps take like an upload", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();

    const { digests, uri } = await rig.fetch(plan, origin.url());

    const staged = { ...plan, uri };
    expect(await rig.verify(staged)).toMatchObject({ size: SIZE_BYTES, digests });
    await rig.publish(staged, digests, [await rig.store(staged, SIZE_BYTES)]);
    await runStep(() => rig.cleanUp.unstageImage(plan));
    expect(await traces(rig, plan.image_id)).toEqual({ ...NOTHING, status: "active" });
    expect((await readFile(rig.copyPath(plan))).equals(BYTES)).toBe(true);
  });

  it("opens a sealed URI", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const sealingKeys = new SealingKeys([randomBytes(32)]);
    const rig = await nodeFor(origin, { sealingKeys });
    const plan = await rig.claimForFetch();
    const sealed = sealingKeys.seal(plan.image_id, origin.url("/disk.img?sig=s3cret"));

    await rig.fetch(plan, sealed);

    expect(origin.requests[0]?.path).toBe("/disk.img?sig=s3cret");
    expect((await catalogue.staged(plan.image_id))?.fetchedFrom?.url).toBe(origin.url());
  });

  it("fails before the first byte when there is too little room", async () => {
    const origin = await HostileOrigin.start(async (exchange) => {
      exchange.head(200, { "content-length": 2 ** 50 });
      await exchange.gone();
    });
    const rig = await nodeFor(origin, { limits: { ...NO_LIMITS, imageSizeCapBytes: 2 ** 51 } });
    const plan = await rig.claimForFetch();

    expect(await failureOf(rig.fetch(plan, origin.url()))).toMatchObject({ code: "NoSpace" });
  });

  it.runIf(MAY_MOUNT)("fails when space runs out in a download of unknown size", async () => {
    const origin = await HostileOrigin.start(
      chunked(async (exchange) => {
        while (exchange.isOpen) await exchange.chunk(BYTES);
      }),
    );
    const volume = await mountSmallVolume(8);
    const makeStaging = async () => pathToFileURL(volume).href;
    const rig = await nodeFor(origin, { makeStaging });
    const plan = await rig.claimForFetch();

    expect(await failureOf(rig.fetch(plan, origin.url()))).toMatchObject({ code: "NoSpace" });

    await rig.discardFetched(plan);
    expect(await readdir(volume)).toEqual([".image-import-node"]);
    expect(await catalogue.staged(plan.image_id)).toBeUndefined();
  });

  it("leaves nothing when its import was undone before it made its file", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    const { staging } = rig.dependencies;
    const createPart = staging.createPart.bind(staging);
    vi.spyOn(staging, "createPart").mockImplementationOnce(async (part) => {
      const id = { imageId: plan.image_id, epoch: plan.epoch, place: "download" } as const;
      await catalogue.database.transaction((db) => dropLease(db, id));
      await rig.release(plan);
      return createPart(part);
    });

    const failure = await failureOf(rig.fetch(plan, origin.url()));

    expect(failure.code).toBe("ImportLost");
    expect(await rig.names("staging")).toEqual([]);
  });

  it("keeps the upload of a user", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const rig = await nodeFor(origin);
    const plan = await rig.stageAndClaim(someBytes(100));
    const before = await catalogue.allLeases(plan.image_id);

    await rig.fetch(plan, origin.url());
    await rig.discardFetched(plan);

    expect(await catalogue.allLeases(plan.image_id)).toEqual(before);
    expect(await rig.names("staging")).toEqual([plan.image_id]);
  });

  it.each(["undone", "swept"])(
    "leaves a user's file in staging alone when the download is %s",
    async (end) => {
      const origin = await HostileOrigin.start(honest(BYTES));
      const rig = await nodeFor(origin);
      const plan = await rig.claimForFetch();
      await writeFile(rig.staged(plan.image_id), "mine");
      await rig.fetch(plan, origin.url());

      if (end === "undone") await rig.discardFetched(plan);
      await rig.release(plan);
      await sweepNode(rig.dependencies);

      expect(await rig.names("staging")).toEqual([plan.image_id]);
      expect(await readFile(rig.staged(plan.image_id), "utf8")).toBe("mine");
    },
  );

  it("makes a download that another import of the image cannot take", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const rig = await nodeFor(origin);
    const first = await rig.claimForFetch();
    const { uri } = await rig.fetch(first, origin.url());
    await rig.release(first);
    const second = await rig.claim(first.image_id, { uri });

    expect(await failureOf(rig.verify(second))).toMatchObject({ code: "StagedDataRefused" });
  });

  it("does nothing for an import that was undone", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    await rig.release(plan);

    expect(await failureOf(rig.fetch(plan, origin.url()))).toMatchObject({ code: "ImportLost" });
    expect(await traces(rig, plan.image_id)).toEqual(NOTHING);
  });

  it("replaces the download of an earlier import that was ended without its undo", async () => {
    const origin = await HostileOrigin.start(once(honest(someBytes(500)), honest(BYTES, '"two"')));
    const rig = await nodeFor(origin);
    const first = await rig.claimForFetch();
    await rig.fetch(first, origin.url());
    await rig.release(first);
    const second = await rig.claim(first.image_id, { uri: rig.uri("nothing") });

    expect(await rig.fetch(second, origin.url())).toMatchObject({ digests: digestsOf(BYTES) });
    await rig.discardFetched(first);
    expect(await rig.names("staging")).toEqual([
      expect.stringMatching(`^${first.image_id}\\.2\\.[0-9a-f]{8}\\.product$`),
    ]);
  });
});

describe("discardFetched()", () => {
  it("removes a complete download, and succeeds again", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    await rig.fetch(plan, origin.url());

    await rig.discardFetched(plan);
    await rig.discardFetched(plan);
    await rig.release(plan);

    expect(await traces(rig, plan.image_id)).toEqual(NOTHING);
  });

  it("ends a download that still runs", async () => {
    const origin = await HostileOrigin.start(stallsAt99Percent);
    const rig = await nodeFor(origin, { web: { idleTimeoutMs: 60_000 } });
    const plan = await rig.claimForFetch();
    const fetching = rig.fetch(plan, origin.url()).catch(String);
    await rig.awaitPart("staging", 2 * MIB);

    await rig.discardFetched(plan);

    expect(await fetching).toContain("Another attempt took over");
    expect(await rig.names("staging")).toEqual([]);
    expect(await catalogue.staged(plan.image_id)).toBeUndefined();
  });
});

describe("sweepNode() after an import that was ended without its undo", () => {
  it.each<[string, Behaviour]>([
    ["part", once(dropsAt60Percent, failing(503))],
    ["data", honest(BYTES)],
  ])("removes the %s that it fetched, and not before", async (_, behaviour) => {
    const origin = await HostileOrigin.start(behaviour);
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    await rig.fetch(plan, origin.url()).catch(() => undefined);
    const sweep = () => runStep(() => sweepNode(rig.dependencies));
    expect(await sweep()).toEqual({ staged: 0, parts: 0 });
    await rig.release(plan);

    expect(await sweep()).toEqual({ staged: 1, parts: 0 });
    expect(await traces(rig, plan.image_id)).toEqual(NOTHING);
  });
});
