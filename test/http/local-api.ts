import type { AddressInfo } from "node:net";
import { pino } from "pino";
import { onTestFinished } from "vitest";
import type { ImageImportClient } from "../../src/client/image-import-client.ts";
import { readConfig } from "../../src/config/config.ts";
import { Health } from "../../src/health/health.ts";
import { callerOf, type Caller } from "../../src/http/caller.ts";
import { buildApi, type Api } from "../../src/http/server.ts";
import type { SharedStack } from "../support/shared-stack.ts";

/** The settings of a {@link LocalApi}. */
interface LocalApiOptions {
  readonly stack: SharedStack;
  /** Its client, or one that a test has changed. */
  readonly client: ImageImportClient;
  /** The sender of a request. Default: a member of the project `ours`. */
  readonly callerOf?: (headers: NodeJS.Dict<string | string[]>) => Caller;
}

/** An API in the process of the test: the test may come between its steps. */
export class LocalApi {
  readonly app: Api;
  /** Its address, without a path. */
  readonly url: string;
  /** The lines of its log. */
  readonly lines: readonly string[];
  readonly #stopping: AbortController;

  private constructor(app: Api, lines: readonly string[], stopping: AbortController) {
    this.app = app;
    this.lines = lines;
    this.#stopping = stopping;
    this.url = `http://127.0.0.1:${String((app.server.address() as AddressInfo).port)}`;
  }

  /** Listens on loopback until the running test has finished. */
  static async open({ stack, client, callerOf: identify }: LocalApiOptions): Promise<LocalApi> {
    const lines: string[] = [];
    const config = readConfig(stack.file.config);
    const stopping = new AbortController();
    const ours = callerOf("alice", "ours", ["member"]);
    const identity = {
      challenge: "Test",
      identify: ({ headers }: { headers: NodeJS.Dict<string | string[]> }) =>
        Promise.resolve(identify?.(headers) ?? ours),
      close: () => Promise.resolve(),
    };
    const app = await buildApi(
      {
        ...{ client, config, settings: config.api, identity },
        health: new Health("api"),
        stopping: stopping.signal,
      },
      pino({ level: "info" }, { write: (line: string) => lines.push(line) }),
    );
    onTestFinished(() => app.close());
    await app.listen({ host: "127.0.0.1", port: 0, listenTextResolver: () => "" });
    return new LocalApi(app, lines, stopping);
  }

  /** Ends what still runs, as the API does when its time to drain is over. */
  stop(): void {
    this.#stopping.abort();
  }
}
