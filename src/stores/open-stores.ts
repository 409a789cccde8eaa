import { readFile } from "node:fs/promises";
import { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { isPartName, keyOfPart } from "../bytes/part-name.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { formatDuration } from "../domain/duration.ts";
import { ImportError } from "../domain/import-failure.ts";
import { unknownStore } from "../domain/import-request.ts";
import type { StoreSettings } from "../domain/store-settings.ts";
import { within } from "../domain/within.ts";
import { FileStore } from "./file-store.ts";
import { StoreMark, type MarkRecords } from "./store-mark.ts";
import type { Store } from "./store.ts";

/** A store that a worker cannot use when it starts. */
export interface Unready {
  readonly failure: ImportError;
  /** True if its configuration is wrong: waiting does not help, and the store was never used. */
  readonly neverWorked: boolean;
}

/** The configuration of a store, as users see it. */
export interface StoreDescription {
  readonly name: string;
  readonly type: StoreSettings["type"];
  /** The path, or `s3://bucket/prefix`. */
  readonly location: string;
  readonly isReadOnly: boolean;
  readonly isDisabled: boolean;
}

/** The stores of this worker, by name. */
export class Stores {
  readonly defaultName: string;
  readonly #settings: ReadonlyMap<string, StoreSettings>;
  readonly #opened: ReadonlyMap<string, Store>;
  readonly #marks: ReadonlyMap<string, StoreMark>;
  /** Stores that have not answered {@link Stores.freeBytes} yet. */
  readonly #asked = new Set<string>();

  private constructor(
    settings: ReadonlyMap<string, StoreSettings>,
    opened: ReadonlyMap<string, Store>,
    marks: ReadonlyMap<string, StoreMark>,
    defaultName: string,
  ) {
    this.defaultName = defaultName;
    this.#settings = settings;
    this.#opened = opened;
    this.#marks = marks;
  }

  /**
   * Opens all stores except the disabled ones. A store that does not work fails when it is used.
   *
   * @param records - the catalogue's marks of stores. Default: places are used without a mark
   * @throws ImportError `BadConfiguration` when the file of a `ca_file` cannot be read
   */
  static async open(
    settings: Readonly<Record<string, StoreSettings>>,
    defaultName: string,
    records?: MarkRecords,
  ): Promise<Stores> {
    const opened = new Map<string, Store>();
    const marks = new Map<string, StoreMark>();
    const isConfigured = (name: string): boolean => Object.hasOwn(settings, name);
    for (const [name, each] of Object.entries(settings)) {
      if (each.disabled === true) continue;
      const isReadOnly = each.readOnly === true;
      const mark = records && new StoreMark({ store: name, records, isConfigured, isReadOnly });
      if (mark !== undefined) marks.set(name, mark);
      opened.set(name, await openStore(name, each, mark));
    }
    return new Stores(new Map(Object.entries(settings)), opened, marks, defaultName);
  }

  /** Names of the stores that may be touched, in the order of the configuration. */
  get names(): string[] {
    return [...this.#opened.keys()];
  }

  /** Names of the stores that images can be imported into, in the order of the configuration. */
  get writableNames(): string[] {
    return this.names.filter((name) => this.#settings.get(name)?.readOnly !== true);
  }

  /** All stores, also the disabled ones, in the order of the configuration. */
  get descriptions(): StoreDescription[] {
    return [...this.#settings].map(([name, settings]) => ({
      name,
      type: settings.type,
      location:
        settings.type === "file" ? settings.path : `s3://${settings.bucket}/${settings.prefix}`,
      isReadOnly: settings.readOnly === true,
      isDisabled: settings.disabled === true,
    }));
  }

  /**
   * The store of that name. A disabled store fails like an unreachable one, so that steps wait for
   * it.
   *
   * @throws ImportError `UnknownStore`, `StoreUnavailable`
   */
  get(name: string): Store {
    const store = this.#opened.get(name);
    if (store !== undefined) return store;
    this.#requireKnown(name);
    throw new ImportError("StoreUnavailable", `Cannot use store "${name}": it is disabled`, {
      hint: "Remove `disabled` from the store in the configuration, and restart the worker.",
    });
  }

  /**
   * Makes sure that images may be imported into the store of that name. A disabled store is refused
   * at once: no import has begun that would have to wait for it.
   *
   * @throws ImportError `UnknownStore`; `BadRequest` when it is disabled or read-only
   */
  requireWritable(name: string): void {
    this.#requireKnown(name);
    if (this.writableNames.includes(name)) return;
    const state = this.#opened.has(name) ? "read-only" : "disabled";
    throw new ImportError("BadRequest", `Cannot import into store "${name}": it is ${state}`, {
      hint: "Choose another store: `image-import stores` lists them, and shows which are read-only or disabled.",
    });
  }

  /**
   * Prepares all stores that are not disabled, side by side: creates and marks those that were
   * never used, and checks the others.
   *
   * @param patienceMs - longest wait for a store that does not answer
   * @returns the stores that are not ready, by name
   */
  async prepare(patienceMs: number): Promise<ReadonlyMap<string, Unready>> {
    const unready = new Map<string, Unready>();
    const preparing = [...this.#opened].map(async ([name, store]) => {
      const silence = new ImportError(
        "StoreUnavailable",
        `Cannot use store "${name}": it did not answer within ${formatDuration(patienceMs)}`,
      );
      try {
        await within(patienceMs, silence, store.prepare());
      } catch (error) {
        const failure = failureOfStore(name, error);
        unready.set(name, { failure, neverWorked: await this.#neverWorked(name, failure) });
      }
    });
    await Promise.all(preparing);
    return unready;
  }

  /**
   * Free bytes of the stores that report them and answer, by name.
   *
   * @param patienceMs - longest wait for a store that does not answer
   */
  async freeBytes(patienceMs: number): Promise<ReadonlyMap<string, number>> {
    const free = new Map<string, number>();
    const asking = [...this.#opened].map(async ([name, store]) => {
      // Only directories have a limit that can be read, and reading it must cost nothing. Each call
      // into a file system that hangs occupies one of the few threads of this process.
      if (store.kind !== "file" || this.#asked.has(name)) return;
      const silence = new ImportError("StoreUnavailable", `Store "${name}" did not answer`);
      this.#asked.add(name);
      const checking = store.check("readable").finally(() => this.#asked.delete(name));
      const { freeBytes } = await within(patienceMs, silence, checking);
      if (freeBytes !== undefined) free.set(name, freeBytes);
    });
    await Promise.allSettled(asking);
    return free;
  }

  async #neverWorked(name: string, { retryable }: ImportError): Promise<boolean> {
    return !retryable && (await this.#marks.get(name)?.isKnown()) === false;
  }

  #requireKnown(name: string): void {
    if (!this.#settings.has(name)) throw unknownStore(name, [...this.#settings.keys()]);
  }
}

/** The failure for any error of a store. It must not prevent the use of other stores. */
function failureOfStore(name: string, error: unknown): ImportError {
  const failure = systemFailure(error, `store "${name}"`, "StoreUnavailable");
  if (failure instanceof ImportError) return failure;
  const reason = error instanceof Error ? error.message : String(error);
  return new ImportError("StoreUnavailable", `Cannot use store "${name}": ${reason}`, {
    cause: error,
  });
}

async function openStore(
  name: string,
  settings: StoreSettings,
  mark: StoreMark | undefined,
): Promise<Store> {
  const store = await openWritable(name, settings, mark);
  return settings.readOnly === true ? readOnly(store) : store;
}

async function openWritable(
  name: string,
  settings: StoreSettings,
  mark: StoreMark | undefined,
): Promise<Store> {
  const { bandwidthLimit, ...options } = settings;
  const limiter = bandwidthLimit === undefined ? undefined : new BandwidthLimit(bandwidthLimit);
  if (options.type === "file") return new FileStore({ name, ...options, limiter, mark });
  // The pinned SDK supports our oldest Node; silence its warning about later versions.
  // eslint-disable-next-line no-restricted-properties -- A setting of the SDK, not of ours.
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";
  // Loaded when it is needed: the SDK alone takes longer to load than a command should.
  const { S3Store } = await import("./s3-store.ts");
  const { caFile, ...ofBucket } = options;
  const authorities = await readAuthorities(name, caFile);
  return new S3Store({ name, ...ofBucket, authorities, limiter, mark });
}

async function readAuthorities(
  store: string,
  path: string | undefined,
): Promise<string | undefined> {
  if (path === undefined) return undefined;
  return readFile(path, "utf8").catch((cause: unknown) => {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ImportError(
      "BadConfiguration",
      `Cannot read the file "${path}" of \`stores.${store}.ca_file\`: ${reason}`,
      { cause, hint: "Set it to a PEM file that the worker and the command may read." },
    );
  });
}

/**
 * Makes a store read-only. A deletion that must remove a copy from it waits: its image stays
 * `pending_delete` with this reason until the store may be written again. An image is `deleted`
 * only when its bytes are gone. The removal of names that are not there succeeds, as in any store:
 * an import whose copy was refused has nothing to remove.
 */
function readOnly(store: Store): Store {
  const refuse = async (): Promise<never> => {
    throw new ImportError(
      "PermissionDenied",
      `Cannot write to store "${store.name}": it is read-only`,
      {
        hint: "Remove `read_only` from the store in the configuration, and restart the worker.",
      },
    );
  };
  return {
    name: store.name,
    kind: store.kind,
    urlOf: (key) => store.urlOf(key),
    open: (key, signal) => store.open(key, signal),
    find: (key, signal) => store.find(key, signal),
    copy: refuse,
    remove: async (names) => {
      if (await isAnyThere(store, names)) await refuse();
    },
    // Nothing in it may be swept.
    listParts: async () => [],
    check: () => store.check("readable"),
    prepare: async () => {
      const { works, reason = "it does not work" } = await store.check("readable");
      if (works) return;
      const prefix = `Cannot use store "${store.name}": `;
      throw new ImportError(
        "StoreUnavailable",
        reason.startsWith(prefix) ? reason : `${prefix}${reason}`,
      );
    },
    adopt: () => store.adopt(),
  };
}

/** True if a store has a copy or a part of these names, or another part of the same key. */
async function isAnyThere(store: Store, names: readonly string[]): Promise<boolean> {
  for (const name of names) {
    if (!isPartName(name) && (await store.find(name)) !== undefined) return true;
  }
  const keys = new Set(names.filter(isPartName).map(keyOfPart));
  if (keys.size === 0) return false;
  return (await store.listParts(-Infinity)).some((part) => keys.has(keyOfPart(part)));
}
