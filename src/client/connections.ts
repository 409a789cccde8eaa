import type { Client, Connection } from "@temporalio/client";
import type { Config } from "../config/config.ts";
import { notConfigured } from "../config/environment.ts";
import { directToLoopback } from "../config/proxy-environment.ts";
import { temporalAddress, type TemporalAddress } from "../config/temporal-address.ts";
import type { Database } from "../db/connect.ts";
import type { StagingArea } from "../staging/staging-area.ts";
import type { VolumeRecords } from "../staging/volume-id.ts";
import type { Stores } from "../stores/open-stores.ts";

/**
 * The addresses of the service. A method fails with `NotConfigured` if it needs an address that is
 * not given.
 */
export interface ClientOptions {
  /** Temporal's address. Default: Temporal's own environment variables, then `localhost:7233`. */
  readonly temporal?: TemporalAddress | { readonly address: string; readonly namespace?: string };
  /**
   * The catalogue, for images, tasks and quotas. Starting, steering and following imports don't
   * need it.
   */
  readonly databaseUrl?: string | undefined;
  /** Staging area and stores of this host, for staging, download and verification. */
  readonly config?: Config | undefined;
}

/** The connections of one client. Each is made when it is first needed, and made once. @internal */
export class Connections {
  readonly databaseUrl: string | undefined;
  readonly config: Config | undefined;
  readonly #temporal: ClientOptions["temporal"];
  #connection: Promise<Connection> | undefined;
  #database: Database | undefined;
  #stores: Promise<Stores> | undefined;
  #staging: StagingArea | undefined;

  constructor({ temporal, databaseUrl, config }: ClientOptions) {
    this.databaseUrl = databaseUrl;
    this.config = config;
    this.#temporal = temporal;
  }

  /** The address of the Temporal server, with the settings of its connection. */
  get address(): TemporalAddress {
    return addressOf(this.#temporal);
  }

  /** @throws ImportError `TemporalUnavailable`, `BadConfiguration` */
  async temporal(): Promise<Client> {
    const { Client, Connection } = await import("@temporalio/client");
    const { connection: options, namespace } = this.address;
    this.#connection ??= Connection.connect(options);
    try {
      return new Client({ connection: await this.#connection, namespace });
    } catch (error) {
      this.#connection = undefined;
      const { temporalFailure } = await import("../temporal/temporal-failure.ts");
      throw temporalFailure(error, options.address);
    }
  }

  /**
   * Loads Postgres only here: most programs steer imports and never read the catalogue.
   *
   * @throws ImportError `NotConfigured`
   */
  async catalogue(): Promise<Database> {
    const url = this.requireDatabaseUrl();
    const { Database } = await import("../db/connect.ts");
    this.#database ??= new Database({ url });
    return this.#database;
  }

  /** @throws ImportError `NotConfigured` */
  requireDatabaseUrl(): string {
    if (this.databaseUrl !== undefined) return this.databaseUrl;
    throw notConfigured("the catalogue", "DATABASE_URL");
  }

  /** @throws ImportError `NotConfigured` */
  requireConfig(): Config {
    if (this.config !== undefined) return this.config;
    throw notConfigured(
      "the configuration file with staging area and stores",
      "IMAGE_IMPORT_CONFIG",
    );
  }

  /**
   * The staging area of this host. It is opened once, so that a long-lived program does not take an
   * empty mount point for a new volume.
   *
   * @throws ImportError `NotConfigured`, `StagingUnavailable`
   */
  async staging(): Promise<StagingArea> {
    const { nodeStagingUri } = this.requireConfig();
    if (this.#staging !== undefined) {
      await this.#staging.requireUsable();
      return this.#staging;
    }
    const { StagingArea } = await import("../staging/staging-area.ts");
    const opened = await StagingArea.open(nodeStagingUri, await this.volumeRecords());
    // Of two calls at once, the first decides.
    this.#staging ??= opened;
    return this.#staging;
  }

  /** The staging volumes that this host has used; undefined without a catalogue. */
  async volumeRecords(): Promise<VolumeRecords | undefined> {
    if (this.databaseUrl === undefined) return undefined;
    const { VolumeUseRecords } = await import("../db/volume-use-records.ts");
    return new VolumeUseRecords(await this.catalogue());
  }

  /**
   * The stores of this host, with the marks that the catalogue records if there is one.
   *
   * @throws ImportError `NotConfigured`
   */
  async stores(): Promise<Stores> {
    this.#stores ??= this.#openStores();
    try {
      return await this.#stores;
    } catch (error) {
      // The next call may find a corrected file.
      this.#stores = undefined;
      throw error;
    }
  }

  async #openStores(): Promise<Stores> {
    const { stores, defaultStore } = this.requireConfig();
    const { Stores } = await import("../stores/open-stores.ts");
    if (this.databaseUrl === undefined) return Stores.open(stores, defaultStore);
    const { StoreMarkRecords } = await import("../db/store-mark-records.ts");
    const records = new StoreMarkRecords(await this.catalogue());
    return Stores.open(stores, defaultStore, records);
  }

  /** Ends all connections. */
  async close(): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined);
    await connection?.close();
    await this.#database?.close();
  }
}

function addressOf(given: ClientOptions["temporal"]): TemporalAddress {
  if (given === undefined) return temporalAddress();
  if ("connection" in given) return given;
  return {
    namespace: given.namespace ?? "default",
    connection: directToLoopback({ address: given.address }),
  };
}
