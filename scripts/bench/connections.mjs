import { WebSource } from "#dist/sources/web-source.js";
import { inTurns, result, secondsOf } from "./measure.mjs";
import { receiveWithCurl } from "./references.mjs";

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const SEVERAL = 4;
const SLOW_BYTES_PER_SECOND = 32 * MIB;

/**
 * Measurements of downloads alone: without an import, and neither hashed nor written.
 *
 * @type {import("./cases.mjs").Case[]}
 */
export const CONNECTION_CASES = [
  {
    name: "connections",
    about:
      "1 GiB over loopback through 1 and 4 connections, no digests, against curl; then 128 MiB from an origin that gives each connection 32 MiB/s, 4 against 1",
    async run(service, { isQuick, rounds }) {
      const inRounds = rounds ?? (isQuick ? 1 : 5);
      const url = `http://127.0.0.1:${service.originPort}/disk.raw`;
      const receive = (/** @type {number} */ connections) =>
        secondsOf(() => receiveAll(service, url, connections));
      /** @type {import("./measure.mjs").Result[]} */
      const results = [];
      await serving(service, GIB, {}, async () => {
        for (const connections of [1, SEVERAL]) {
          const times = await inTurns(
            inRounds,
            () => receive(connections),
            () => receiveWithCurl(url),
          );
          results.push(result(`receive 1 GiB, ${connections} at once`, times));
        }
      });
      const slow = { bytesPerSecond: SLOW_BYTES_PER_SECOND };
      await serving(service, 128 * MIB, slow, async () => {
        const times = await inTurns(
          inRounds,
          () => receive(SEVERAL),
          () => receive(1),
        );
        results.push(result(`receive 128 MiB slowly, ${SEVERAL} at once`, times));
      });
      return results;
    },
  },
];

/**
 * @param {import("./service.mjs").Service} service @param {number} sizeBytes @param {{
 *   bytesPerSecond?: number }} pace @param {() => Promise<void>} work
 */
async function serving(service, sizeBytes, pace, work) {
  const stop = await service.serve(await service.makeFile(`web-${sizeBytes}`, sizeBytes), pace);
  try {
    await work();
  } finally {
    await stop();
  }
}

/**
 * @param {import("./service.mjs").Service} service @param {string} url @param {number} connections
 */
async function receiveAll(service, url, connections) {
  const web = new WebSource({
    schemes: ["http"],
    ports: [service.originPort],
    allowedNetworks: ["127.0.0.0/8"],
    allowedHosts: [],
    deniedHosts: [],
    connectTimeoutMs: 10_000,
    headerTimeoutMs: 15_000,
    idleTimeoutMs: 30_000,
    minimumRate: 1024,
    connections,
  });
  const { signal } = new AbortController();
  const download = await web.open({ url, maxBytes: Infinity, signal });
  try {
    const buffer = Buffer.alloc(MIB);
    while ((await download.read(buffer)) > 0);
  } finally {
    await download[Symbol.asyncDispose]();
  }
}
