import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { RemoteService } from "#dist/remote/remote-service.js";
import { inTurns, result, secondsOf } from "./measure.mjs";

const MIB = 1024 ** 2;
const SEVERAL = 4;
const ROUND_TRIP_MS = 50;
const WINDOW_BYTES = MIB;

/** @typedef {import("./service.mjs").Service} Service */

/**
 * Measurements of uploads over a slow network.
 *
 * @type {import("./cases.mjs").Case[]}
 */
export const FAR_UPLOAD_CASES = [
  {
    name: "http-tus",
    about:
      "tus uploads of our client at 50 ms round trip (our proxy: 25 ms each way, at most 1 MiB in flight per connection, no loss): four of 64 MiB at once, one connection each, against one of 256 MiB over one; an upload has one connection, so these are four images",
    async run(service, { isQuick, rounds }) {
      const quarterBytes = (isQuick ? 16 : 64) * MIB;
      const quarter = await service.makeFile("tus-quarter", quarterBytes);
      const whole = await service.makeFile("tus-whole", SEVERAL * quarterBytes);
      const network = await openNetwork(service.stack.addresses.api_url ?? "");
      const remote = new RemoteService({ url: network.url, token: undefined }, () => undefined);
      const upload = async (/** @type {readonly string[]} */ files) => {
        const ids = await Promise.all(files.map(() => service.createImage()));
        const seconds = await secondsOf(() =>
          Promise.all(files.map((file, index) => remote.files.stage(ids[index] ?? "", file, {}))),
        );
        for (const id of ids) await service.client.images.delete(id);
        return seconds;
      };
      try {
        const times = await inTurns(
          rounds ?? (isQuick ? 1 : 3),
          () => upload(Array.from({ length: SEVERAL }, () => quarter)),
          () => upload([whole]),
        );
        const mostMib = (WINDOW_BYTES / MIB / ROUND_TRIP_MS) * 1000;
        const mib = (SEVERAL * quarterBytes) / MIB;
        return [
          result(`tus ${mib} MiB at ${ROUND_TRIP_MS} ms, 4 connections`, times, {
            note: `reference: 1 connection, at best ${(mib / mostMib).toFixed(1)} s`,
          }),
        ];
      } finally {
        await remote.close();
        await network.stop();
        for (const file of [quarter, whole]) rmSync(file);
      }
    },
  },
];

/** Opens a far network before the API. @param {string} apiUrl */
async function openNetwork(apiUrl) {
  const program = fileURLToPath(new URL("./far-network.mjs", import.meta.url));
  const settings = [new URL(apiUrl).port, ROUND_TRIP_MS / 2, WINDOW_BYTES].map(String);
  const child = spawn(process.execPath, [program, ...settings], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = /** @type {[Buffer]} */ (await once(child.stdout, "data"));
  return {
    url: `http://127.0.0.1:${line.toString().trim()}`,
    stop: async () => {
      child.kill();
      await once(child, "exit");
    },
  };
}
