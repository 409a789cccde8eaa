import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { tooLate } from "../client/ended-import.ts";
import type { ImportReport } from "../client/import-report.ts";
import type { WatchOptions } from "../client/imports.ts";
import type { RunningImport } from "../client/running-import.ts";
import type { Service } from "../client/service.ts";
import type { CopyOptions, RequestOptions, StartOptions } from "../client/start-options.ts";
import { UnansweredStart } from "../client/unanswered-start.ts";
import { LONGEST_ACCEPT_WAIT_MS } from "../domain/accept-wait.ts";
import { ImportError } from "../domain/import-failure.ts";
import type {
  AcceptedCopy,
  AcceptedImport,
  ImportOutcome,
  ImportStatus,
} from "../workflow/contract.ts";
import { isUnavailable, type ApiConnection } from "./api-connection.ts";
import { serverEvents, type ServerEvent } from "./event-stream.ts";
import { failureOf } from "./refusal.ts";

type Imports = Service["imports"];

const ACCEPT_TIMEOUT_MS = 60_000;
// The time in which the API must answer once its own wait is over.
const ANSWER_AFTER_MS = 30_000;
// The API sends a comment every 15 s.
const SILENCE_MS = 45_000;
const RETRY_EVERY_MS = 1_000;
// Once an import has ended, its last status comes at once.
const LAST_LOOK_MS = 1_500;

/** The document of a `failure` event: that of an answer which is not a success. */
interface FailureEvent {
  readonly error: Parameters<typeof failureOf>[0] & {
    /** The HTTP status of such an answer. */
    readonly code: number;
  };
}

/** Imports, over HTTP. See the methods of the same name of the client. */
export class RemoteImports implements Imports {
  readonly #api: ApiConnection;
  readonly #note: (text: string) => void;

  /** @param note - takes the reason of a wait, for the user */
  constructor(api: ApiConnection, note: (text: string) => void) {
    this.#api = api;
    this.#note = note;
  }

  async start(imageId: string, options: StartOptions = {}): Promise<AcceptedImport> {
    // Only the answer to a copy may be without a task: all the stores may have the image already.
    return (await this.#request(imageId, options)) as AcceptedImport;
  }

  async copy(imageId: string, options: CopyOptions = {}): Promise<AcceptedCopy> {
    return this.#request(imageId, { ...options, method: "copy-image" });
  }

  async #request(imageId: string, options: RequestOptions): Promise<AcceptedCopy> {
    const { signal } = options;
    const acceptTimeoutMs = Math.min(
      options.acceptTimeoutMs ?? ACCEPT_TIMEOUT_MS,
      LONGEST_ACCEPT_WAIT_MS,
    );
    const json = {
      method: options.method,
      uri: options.uri,
      stores: options.stores,
      all_stores: options.allStores,
      all_stores_must_succeed: options.allStoresMustSucceed,
      transforms: options.transforms,
      detect_format: options.detectFormat,
      checksum: options.checksum,
      size: options.size,
      request_id: options.requestId ?? randomUUID(),
      accept_timeout_ms: acceptTimeoutMs,
    };
    try {
      const { accepted, ...run } = await this.#api.json<AcceptedCopy & { accepted: boolean }>({
        method: "POST",
        path: `/v1/imports/${imageId}`,
        json,
        isRepeatable: true,
        headWithinMs: acceptTimeoutMs + ANSWER_AFTER_MS,
        signal,
      });
      if (accepted) return run;
      throw UnansweredStart.started(run, undefined);
    } catch (error) {
      if (signal?.aborted === true) {
        const left = new ImportError("Interrupted", "The command ended before the API answered");
        throw UnansweredStart.unknown(imageId, left);
      }
      if (error instanceof ImportError && isUnavailable(error)) {
        throw UnansweredStart.unknown(imageId, error);
      }
      throw error;
    }
  }

  async wait(imageId: string, runId?: string): Promise<ImportOutcome> {
    const run = runId ?? (await this.report(imageId)).run_id ?? "";
    for (let isFirst = true; ; isFirst = false) {
      try {
        for await (const { event, data } of this.#events(imageId, { runId: run })) {
          if (event === "outcome") return data as ImportOutcome;
        }
      } catch (error) {
        if (!isUnavailable(error)) throw error;
        if (isFirst) this.#note(`The API does not answer; the import continues`);
      }
      await sleep(RETRY_EVERY_MS);
    }
  }

  async *watch(imageId: string, options: WatchOptions = {}): AsyncGenerator<ImportStatus> {
    const { runId, ended = new AbortController().signal } = options;
    const over = new AbortController();
    const end = (): void => {
      setTimeout(() => {
        over.abort();
      }, LAST_LOOK_MS).unref();
    };
    if (ended.aborted) end();
    ended.addEventListener("abort", end, { once: true });
    try {
      for await (const { event, data } of this.#events(imageId, { runId, signal: over.signal })) {
        if (event === "status") yield data as ImportStatus;
        if (event === "outcome" || event === "end") return;
      }
    } catch (error) {
      if (!over.signal.aborted) throw error;
      return;
    } finally {
      ended.removeEventListener("abort", end);
      over.abort();
    }
    throw new ImportError("ApiUnavailable", "The API ended the answer before the import did");
  }

  /** Yields the events of an import; throws the failure of a `failure` event. */
  async *#events(
    imageId: string,
    { runId, signal }: { readonly runId: string | undefined; readonly signal?: AbortSignal },
  ): AsyncGenerator<ServerEvent> {
    const query = runId === undefined ? "" : `?run_id=${encodeURIComponent(runId)}`;
    const { body } = await this.#api.send({
      method: "GET",
      path: `/v1/imports/${imageId}/events${query}`,
      idleMs: SILENCE_MS,
      signal,
    });
    try {
      for await (const each of serverEvents(body)) {
        if (each.event === "failure") {
          const { error } = each.data as FailureEvent;
          throw failureOf(error, error.code, { url: this.#api.url, hasToken: true });
        }
        yield each;
      }
    } catch (error) {
      throw this.#api.unavailable(error);
    } finally {
      body.destroy();
    }
  }

  async running(): Promise<RunningImport[]> {
    const path = "/v1/imports";
    return (await this.#api.json<{ imports: RunningImport[] }>({ method: "GET", path })).imports;
  }

  async report(imageId: string): Promise<ImportReport> {
    return this.#api.json({ method: "GET", path: `/v1/imports/${imageId}` });
  }

  async pause(imageId: string): Promise<boolean> {
    return this.#steer(imageId, "pause");
  }

  async resume(imageId: string): Promise<boolean> {
    return this.#steer(imageId, "resume");
  }

  async cancel(
    imageId: string,
    { wait = false }: { readonly wait?: boolean } = {},
  ): Promise<boolean> {
    const runId = wait ? (await this.report(imageId)).run_id : null;
    const isReceived = await this.#steer(imageId, "cancel");
    if (runId === null) return isReceived;
    try {
      await this.wait(imageId, runId);
    } catch (error) {
      // A cancelled import ends with this failure.
      if (error instanceof ImportError && error.code === "ImportCancelled") return true;
      throw error;
    }
    throw tooLate(imageId);
  }

  async dropStore(imageId: string, store: string): Promise<readonly string[]> {
    const { stores } = await this.#api.json<{ stores: readonly string[] }>({
      method: "POST",
      path: `/v1/imports/${imageId}/drop-store`,
      json: { store },
      headWithinMs: ACCEPT_TIMEOUT_MS + ANSWER_AFTER_MS,
    });
    return stores;
  }

  async #steer(imageId: string, action: "pause" | "resume" | "cancel"): Promise<boolean> {
    const { received } = await this.#api.json<{ received: boolean }>({
      method: "POST",
      path: `/v1/imports/${imageId}/${action}`,
      isRepeatable: action !== "cancel",
      headWithinMs: ACCEPT_TIMEOUT_MS + ANSWER_AFTER_MS,
    });
    return received;
  }
}
