import { Client, Connection } from "@temporalio/client";
import { ImportRuns } from "#dist/client/import-runs.js";
import { Turns } from "#dist/client/turns.js";
import { inTurns, median, result, secondsOf } from "./measure.mjs";

const MIB = 1024 ** 2;

/** @typedef {import("./service.mjs").Service} Service */

/**
 * @typedef {NonNullable<import("@temporalio/client").ConnectionOptions["interceptors"]>[number]}
 *   Interceptor
 */

/**
 * Measurements of the cost of clients that watch imports.
 *
 * @type {import("./cases.mjs").Case[]}
 */
export const WATCH_CASES = [
  {
    name: "watch",
    about:
      "1 and 10 imports at once into a store of 50 MiB/s that one client watches, against the same without it",
    async run(service, { isQuick, rounds }) {
      const watcher = new Watcher();
      await watcher.connect(service);
      const totalBytes = (isQuick ? 320 : 1280) * MIB;
      const results = [];
      for (const count of [1, 10]) {
        const file = await service.makeFile("watched", totalBytes / count);
        /** @type {number[]} */
        const rates = [];
        const times = await inTurns(
          rounds ?? (isQuick ? 1 : 3),
          async () => {
            watcher.forget();
            const seconds = await importAll(service, file, count, (id) => watcher.watch(id));
            rates.push(watcher.requests / seconds);
            return seconds;
          },
          () => importAll(service, file, count, async () => undefined),
        );
        const note = `${median(rates).toFixed(1)} requests/s to Temporal, the last: ${watcher.calls}`;
        results.push(result(`watch ${count}`, times, { goal: 1.1, note }));
      }
      await watcher.close();
      return results;
    },
  },
];

/**
 * Imports a file several times at once. @param {Service} service @param {string} file @param
 * {number} count @param {(id: string) => Promise<void>} watch @returns the seconds that it took
 */
async function importAll(service, file, count, watch) {
  /** @type {string[]} */
  const ids = [];
  for (let index = 0; index < count; index += 1) ids.push(await service.stage(file));
  const seconds = await secondsOf(() =>
    Promise.all(
      ids.map(async (id) => {
        const { imports } = service.client;
        const { run_id: runId } = await imports.start(id, { stores: ["slow"] });
        await Promise.all([imports.wait(id, runId), watch(id)]);
      }),
    ),
  );
  for (const id of ids) await service.client.images.delete(id);
  return seconds;
}

/** A client that watches, and the requests that it sends. */
class Watcher {
  /** @type {Map<string, number>} */
  #calls = new Map();
  // The same values as in `Imports.watch`.
  #looks = { everyMs: 250, turns: new Turns(125), ended: new AbortController().signal };
  /** @type {Client | undefined} */
  #client;

  /** @param {Service} service */
  async connect({ stack }) {
    const connection = await Connection.connect({
      address: stack.addresses.temporal_address,
      interceptors: [
        (options, nextCall) => {
          const name = options.method_definition.path.replace(/.*\//, "");
          this.#calls.set(name, (this.#calls.get(name) ?? 0) + 1);
          // The class is in grpc-js, which is not a dependency of this package.
          // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment
          return /** @type {ReturnType<Interceptor>} */ (nextCall(options));
        },
      ],
    });
    this.#client = new Client({ connection });
  }

  get requests() {
    return [...this.#calls.values()].reduce((sum, each) => sum + each, 0);
  }

  get calls() {
    return [...this.#calls].map(([name, count]) => `${count} ${name}`).join(", ");
  }

  forget() {
    this.#calls.clear();
  }

  /** Looks at an import until it has ended, as `watch` does. @param {string} imageId */
  async watch(imageId) {
    if (this.#client === undefined) throw new Error("It is not connected");
    const runs = new ImportRuns(this.#client);
    for await (const { phase } of runs.watch(imageId, this.#looks)) if (phase === "done") return;
  }

  async close() {
    await this.#client?.connection.close();
  }
}
