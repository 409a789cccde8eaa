import { once } from "node:events";
import type { Command } from "commander";
import type { ImageImportClient } from "../client/image-import-client.ts";
import type { Service } from "../client/service.ts";
import { apiAccess, type ApiAccess, type ApiOptions } from "../config/api-access.ts";
import type { Config } from "../config/config.ts";
import { dataDirOf, notConfigured } from "../config/environment.ts";
import type { LocationOptions, ServiceLocation } from "../config/locate.ts";
import { ImportError } from "../domain/import-failure.ts";
import { canRewrite, reported, wantsColours } from "../config/terminal-settings.ts";
import { EventLines } from "./event-lines.ts";
import { exitWith } from "./exit-code.ts";
import { FailedImport, placeOf } from "./failure.ts";
import { failureEvent } from "./failure-event.ts";
import type { End } from "./import-event.ts";
import { COLOURED, PLAIN } from "./paint.ts";
import { json } from "./render.ts";
import { openProgressDisplay } from "./open-progress.ts";
import type { ProgressDisplay } from "./progress-display.ts";
import type { ReportPage } from "./import-report-fields.ts";
import { nameSubject, type Subject } from "./subject.ts";

/** Options that every command takes. */
export interface GlobalOptions extends LocationOptions, ApiOptions {
  readonly json?: boolean | undefined;
  /** An option of the commands that follow imports. */
  readonly jsonLines?: boolean | undefined;
  readonly quiet?: boolean | undefined;
  /** From `--no-progress`. */
  readonly progress?: boolean | undefined;
  readonly verbose?: boolean | undefined;
}

/** The answer of a command, and its progress until then. */
export interface Answering {
  readonly progress: ProgressDisplay;
  /**
   * Gives the answer, once, and sets the exit code of its end.
   *
   * @param document - for `--json`
   * @param forPeople - the same as text, ended by a newline
   * @param end - for `--json-lines`. Default: `succeeded`
   */
  answer(document: object, forPeople: () => string, end?: End): void;
  /** Adds what is known of the import that the command is about: its failures name it. */
  about(subject: Subject): void;
  /** The place where reports of imports are shown. */
  readonly page: () => Promise<ReportPage>;
}

/** One run of one command: the location of the service, the connections, and the answer. */
export class Session implements Answering {
  /** True if the answer is one document. */
  readonly isJson: boolean;
  /** True if each change is a line, and the answer part of the last one. */
  readonly isJsonLines: boolean;
  readonly #options: GlobalOptions;
  #location: ServiceLocation | undefined;
  #config: Config | undefined;
  #client: ImageImportClient | undefined;
  #remote: Service | undefined;
  #progress: ProgressDisplay | undefined;
  #isAnswered = false;
  #subject: Subject = {};

  constructor(options: GlobalOptions) {
    this.#options = options;
    this.isJsonLines = options.jsonLines === true;
    this.isJson = options.json === true && !this.isJsonLines;
  }

  /** The data directory of a stack, which need not exist. */
  get dataDir(): string {
    return dataDirOf(this.#options.dataDir);
  }

  /** The location of the service. @throws ImportError `BadConfiguration` */
  async location(): Promise<ServiceLocation> {
    // Loaded when it is needed, as everything that `--help` should not wait for.
    const { locateService } = await import("../config/locate.ts");
    this.#location ??= locateService(this.#options);
    return this.#location;
  }

  /**
   * The configuration of this host; undefined if none is named. @throws ImportError
   * `BadConfiguration`
   */
  async config(): Promise<Config | undefined> {
    const { configPath } = await this.location();
    if (configPath === undefined) return undefined;
    const { readConfig } = await import("../config/config.ts");
    this.#config ??= readConfig(configPath);
    return this.#config;
  }

  /**
   * The same, for a command that needs one. @throws ImportError `NotConfigured`,
   * `BadConfiguration`
   */
  async requiredConfig(): Promise<Config> {
    const config = await this.config();
    if (config !== undefined) return config;
    throw notConfigured(
      "the configuration file with staging area and stores",
      "IMAGE_IMPORT_CONFIG",
    );
  }

  /**
   * Address of the catalogue, for a command that connects without the client. @throws ImportError
   * `NotConfigured`
   */
  async requiredDatabaseUrl(): Promise<string> {
    const { databaseUrl } = await this.location();
    if (databaseUrl !== undefined) return databaseUrl;
    throw notConfigured("the catalogue", "DATABASE_URL");
  }

  /** True once the command has used an API in place of the service on this host. */
  get isRemote(): boolean {
    return this.#remote !== undefined;
  }

  /**
   * The API that takes the place of the service on this host.
   *
   * @throws ImportError `BadConfiguration`
   */
  get api(): ApiAccess | undefined {
    return apiAccess(this.#options);
  }

  /** A client for all work that needs no configuration file, on this host or over HTTP. */
  async service(): Promise<Service> {
    return this.#overHttp() ?? this.client();
  }

  /**
   * A client that also reads and writes bytes, on this host or over HTTP. @throws ImportError
   * `BadConfiguration`
   */
  async hostService(): Promise<Service> {
    return this.#overHttp() ?? this.hostClient();
  }

  /**
   * A client without the configuration file: a mistake in that file must not stop a `cancel`.
   *
   * @throws ImportError `BadRequest` if an API is named
   */
  async client(): Promise<ImageImportClient> {
    return this.#connect(undefined);
  }

  /**
   * A client with staging area and stores of this host. @throws ImportError
   * `BadConfiguration`, `BadRequest` if an API is named
   */
  async hostClient(): Promise<ImageImportClient> {
    this.#requireNoApi();
    return this.#connect(await this.config());
  }

  /** The display of the progress of this command. */
  get progress(): ProgressDisplay {
    const { quiet = false, progress = true, verbose = false } = this.#options;
    const isTerminal = process.stderr.isTTY;
    if (this.isJsonLines) this.#progress ??= new EventLines(process.stdout, quiet);
    this.#progress ??= openProgressDisplay(process.stderr, {
      // With `--json` stderr holds the document of a failure, or nothing. No program reads a
      // terminal.
      isQuiet: quiet || (this.isJson && !isTerminal),
      isPlain: !progress || !canRewrite(isTerminal),
      isVerbose: verbose,
      paint: wantsColours(isTerminal) ? COLOURED : PLAIN,
    });
    return this.#progress;
  }

  /**
   * Writes the answer, once per command, and sets the exit code of its end.
   *
   * @param document - for `--json`
   * @param forPeople - the same as text, ended by a newline
   * @param end - for `--json-lines`
   */
  answer(document: unknown, forPeople: () => string, end: End = "succeeded"): void {
    this.#isAnswered = true;
    exitWith(end);
    this.progress.stop();
    if (this.isJsonLines) this.progress.event({ event: end, answer: document });
    else process.stdout.write(this.isJson ? json(document) : forPeople());
  }

  about(subject: Subject): void {
    this.#subject = { ...this.#subject, ...subject };
    this.progress.about(subject);
  }

  /** Names the import in a failure, and reports it to programs, unless the answer did. */
  fail(error: unknown): void {
    nameSubject(error, this.#subject);
    if (this.isJsonLines && !this.#isAnswered) this.progress.event(failureEvent(error));
  }

  /** Writes a long answer as it becomes known, once per command. */
  async stream(chunks: AsyncIterable<string>): Promise<void> {
    for await (const chunk of chunks) {
      this.progress.stop();
      if (!process.stdout.write(chunk)) await once(process.stdout, "drain");
    }
  }

  /** The place where reports of imports are shown. */
  readonly page = async (): Promise<ReportPage> => {
    // A user of the API has no access to Temporal's Web UI.
    const location = this.api === undefined ? await this.location() : undefined;
    const { webUi, temporal } = location ?? {};
    return {
      width: process.stdout.isTTY ? reported(process.stdout.columns) : undefined,
      nowMs: Date.now(),
      linkOf: (imageId, runId) =>
        webUi === undefined
          ? undefined
          : `${webUi}/namespaces/${temporal?.namespace ?? ""}/workflows/image-import%2F${imageId}/${runId}/history`,
    };
  };

  /** Ends progress and connections. */
  async close(): Promise<void> {
    this.#progress?.stop();
    await this.#client?.close();
    await this.#remote?.close();
  }

  #overHttp(): Promise<Service> | undefined {
    const { api } = this;
    if (api === undefined) return undefined;
    return import("../remote/remote-service.ts").then(({ RemoteService }) => {
      this.#remote ??= new RemoteService(api, (text) => {
        this.progress.note(text);
      });
      return this.#remote;
    });
  }

  #requireNoApi(): void {
    if (this.api === undefined) return;
    throw new ImportError("BadRequest", "This command does not work over the API", {
      hint: "Run it on a host of the service, without `--api` and IMAGE_IMPORT_API.",
    });
  }

  async #connect(config: Config | undefined): Promise<ImageImportClient> {
    this.#requireNoApi();
    if (this.#client !== undefined) return this.#client;
    const { temporal, databaseUrl } = await this.location();
    const { ImageImportClient: Client } = await import("../client/image-import-client.ts");
    this.#client = await Client.connect({ temporal, databaseUrl, config });
    return this.#client;
  }
}

/** The action of a command: opens a session, runs the work, closes the session. */
// Each work names its arguments.
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters
export function inSession<Arguments extends readonly unknown[]>(
  work: (session: Session, ...args: Arguments) => Promise<void>,
): (...received: unknown[]) => Promise<void> {
  return async (...received) => {
    // Commander calls an action with the command's arguments, its options, and the command itself.
    const command = received.at(-1) as Command;
    const args = received.slice(0, -1) as unknown as Arguments;
    const session = new Session(command.optsWithGlobals<GlobalOptions>());
    try {
      await work(session, ...args);
    } catch (error) {
      const failure = await withKnownPlace(error, session);
      session.fail(failure);
      throw failure;
    } finally {
      await session.close();
    }
  };
}

/**
 * The error, with a hint that fits the servers and the configuration that were tried. The failure
 * of the command `import` stays: its hint has the one of its cause already.
 */
export async function withKnownPlace(error: unknown, session: Session): Promise<unknown> {
  if (!(error instanceof ImportError) || error instanceof FailedImport) return error;
  if (session.isRemote) return error;
  if (error.code === "UnknownStore") return whereWorkerDiffers(error, session);
  if (error.code === "TemporalUnavailable") return whereNothingIsNamed(error, session);
  return error;
}

/** Adds a hint if the configuration of this host has the store, and that of the worker lacks it. */
async function whereWorkerDiffers(error: ImportError, session: Session): Promise<ImportError> {
  const [, name = ""] = /store "([^"]*)"/.exec(error.message) ?? [];
  if (!(await storesHere(session)).includes(name)) return error;
  const { configPath = "" } = await session.location();
  return new ImportError(error.code, error.message, {
    cause: error,
    ...placeOf(error),
    hint: `"${configPath}" has this store, and the worker runs with another configuration: restart the worker, or send \`npm start\` a SIGHUP. \`image-import doctor\` compares the two.`,
  });
}

async function storesHere(session: Session): Promise<string[]> {
  try {
    return Object.keys((await session.config())?.stores ?? {});
  } catch {
    return [];
  }
}

/** Adds a hint if no stack runs and no Temporal server is configured. */
async function whereNothingIsNamed(error: ImportError, session: Session): Promise<ImportError> {
  if ((await session.location()).isTemporalNamed) return error;
  return new ImportError(error.code, error.message, {
    cause: error,
    ...placeOf(error),
    hint: "No Temporal server is configured, so localhost:7233 was tried. Start a stack with `image-import dev`, or set TEMPORAL_ADDRESS.",
  });
}
