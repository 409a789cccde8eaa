import type { Command } from "commander";
import type { ImageImportClient } from "../client/image-import-client.ts";
import { readConfig, type Config } from "../config/config.ts";
import {
  dataDirOf,
  locateService,
  notConfigured,
  type LocationOptions,
  type ServiceLocation,
} from "../config/locate.ts";
import { ImportError } from "../domain/import-failure.ts";
import { json } from "./render.ts";
import { openProgressDisplay, type ProgressDisplay } from "./progress-display.ts";

/** Options that every command takes. */
export interface GlobalOptions extends LocationOptions {
  readonly json?: boolean | undefined;
}

/** One run of one command: where the service is, the connections to it, and how to answer. */
export class Session {
  readonly isJson: boolean;
  readonly #options: GlobalOptions;
  #location: ServiceLocation | undefined;
  #config: Config | undefined;
  #client: ImageImportClient | undefined;
  #progress: ProgressDisplay | undefined;

  constructor(options: GlobalOptions) {
    this.#options = options;
    this.isJson = options.json === true;
  }

  /** The data directory of a stack, which need not exist. */
  get dataDir(): string {
    return dataDirOf(this.#options.dataDir);
  }

  /** Where the service is. @throws ImportError `BadConfiguration` */
  get location(): ServiceLocation {
    this.#location ??= locateService(this.#options);
    return this.#location;
  }

  /**
   * The configuration of this host; undefined when nothing names one. @throws ImportError
   * `BadConfiguration`
   */
  get config(): Config | undefined {
    const { configPath } = this.location;
    if (configPath !== undefined) this.#config ??= readConfig(configPath);
    return this.#config;
  }

  /**
   * The same for a command that is of no use without. @throws ImportError `NotConfigured`,
   * `BadConfiguration`
   */
  get requiredConfig(): Config {
    if (this.config !== undefined) return this.config;
    throw notConfigured(
      "the configuration file with staging area and stores",
      "IMAGE_IMPORT_CONFIG",
    );
  }

  /**
   * Address of the catalogue, for a command that connects by itself. @throws ImportError
   * `NotConfigured`
   */
  get requiredDatabaseUrl(): string {
    const { databaseUrl } = this.location;
    if (databaseUrl !== undefined) return databaseUrl;
    throw notConfigured("the catalogue", "DATABASE_URL");
  }

  /**
   * A client for what needs no configuration file: a mistake in that file must not stop a `cancel`.
   */
  async client(): Promise<ImageImportClient> {
    return this.#connect(undefined);
  }

  /**
   * A client that also knows staging area and stores of this host. @throws ImportError
   * `BadConfiguration`
   */
  async hostClient(): Promise<ImageImportClient> {
    return this.#connect(this.config);
  }

  /** Where the command tells how far it is. */
  get progress(): ProgressDisplay {
    this.#progress ??= openProgressDisplay(process.stderr, this.isJson);
    return this.#progress;
  }

  /**
   * Answers, once per command.
   *
   * @param document - for `--json`
   * @param forPeople - the same as text, ended by a newline
   */
  answer(document: unknown, forPeople: () => string): void {
    this.progress.stop();
    process.stdout.write(this.isJson ? json(document) : forPeople());
  }

  /** Ends progress and connections. */
  async close(): Promise<void> {
    this.#progress?.stop();
    await this.#client?.close();
  }

  async #connect(config: Config | undefined): Promise<ImageImportClient> {
    if (this.#client !== undefined) return this.#client;
    const { temporal, databaseUrl } = this.location;
    // Loaded when it is needed: Temporal's client alone takes longer than `--help` should.
    const { ImageImportClient: Client } = await import("../client/image-import-client.ts");
    this.#client = await Client.connect({ temporal, databaseUrl, config });
    return this.#client;
  }
}

/** The action of a command: opens a session, does the work, ends the session. */
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
      throw whereWorkerDiffers(whereNothingIsNamed(error, session), session);
    } finally {
      await session.close();
    }
  };
}

/** A store that this host's configuration has and the worker's has not: one of them is older. */
function whereWorkerDiffers(error: unknown, session: Session): unknown {
  if (!(error instanceof ImportError) || error.code !== "UnknownStore") return error;
  const [, name = ""] = /"([^"]*)"/.exec(error.message) ?? [];
  if (!storesHere(session).includes(name)) return error;
  return new ImportError(error.code, error.message, {
    cause: error,
    hint: `"${session.location.configPath ?? ""}" has this store, the worker runs with another configuration: start the worker again, or send \`npm start\` a SIGHUP; \`image-import doctor\` compares them.`,
  });
}

function storesHere(session: Session): string[] {
  try {
    return Object.keys(session.config?.stores ?? {});
  } catch {
    return [];
  }
}

/**
 * Who has started nothing and configured nothing is told that, and not that a server of his is
 * away.
 */
function whereNothingIsNamed(error: unknown, session: Session): unknown {
  const isAway = error instanceof ImportError && error.code === "TemporalUnavailable";
  if (!isAway || session.location.isTemporalNamed) return error;
  return new ImportError(error.code, error.message, {
    cause: error,
    hint: "Nothing names a Temporal server, so localhost:7233 was tried. Start a stack with `npm start`, or set TEMPORAL_ADDRESS.",
  });
}
