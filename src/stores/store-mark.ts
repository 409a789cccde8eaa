import { randomUUID } from "node:crypto";
import { isUuid } from "../domain/import-request.ts";
import { ImportError } from "../domain/import-failure.ts";

/** Name of the file or object that holds a store's mark. No image's key begins with a dot. */
export const MARK_NAME = ".image-import-store";

/** A copy that the catalogue lists in a store. */
export interface ListedCopy {
  readonly key: string;
}

/** A mark and its store. */
export interface RecordedMark {
  readonly store: string;
  readonly mark: string;
}

/** The marks of stores as the catalogue has them. */
export interface MarkRecords {
  /** The mark that a store must carry; undefined if the store was never used. */
  find(store: string): Promise<string | undefined>;
  /** Copies that the catalogue lists in a store, newest first, `limit` at most. */
  listCopies(store: string, limit: number): Promise<readonly ListedCopy[]>;
  /**
   * Records a mark for a store that has none.
   *
   * @returns the mark that the store has now; or, if this is the mark of another store, that store,
   *   and nothing is recorded
   */
  record(store: string, mark: string): Promise<RecordedMark>;
  /** Records a mark in place of the store's earlier one. @returns as {@link MarkRecords.record} */
  replace(store: string, mark: string): Promise<RecordedMark>;
  /** Forgets the mark of a store. */
  forget(store: string): Promise<void>;
}

/** The place of a store: the directory, or the bucket with its prefix. */
export interface MarkedPlace {
  /** The place in messages, such as `directory "/srv/images"`. */
  readonly title: string;
  /** The mark in that place; undefined if there is none. */
  read(): Promise<string | undefined>;
  /** Writes a mark durably unless there is one. @returns the mark that is there then */
  write(mark: string): Promise<string>;
  /** True if the place has a copy of that key. */
  holds(key: string): Promise<boolean>;
}

/** The result of an adoption. */
export interface Adopted {
  readonly mark: string;
  /** True if this adoption wrote the mark; false if it was there already. */
  readonly isNew: boolean;
  /** Number of copies, the newest of the catalogue, that were looked for in the place. */
  readonly lookedFor: number;
  /** Number of those copies that the place has. */
  readonly found: number;
}

/** Settings of a {@link StoreMark}. */
export interface StoreMarkOptions {
  readonly store: string;
  readonly records: MarkRecords;
  /** True if a store of that name is configured here. */
  readonly isConfigured: (store: string) => boolean;
  /** True if nothing may be written into the store, not even a mark. */
  readonly isReadOnly: boolean;
}

// One copy that is there proves that the place is right. Others may have been lost.
const LOOKED_FOR = 64;

/**
 * The mark of a store: a random id in its place, and the same id in the catalogue. It distinguishes
 * the store from an empty mount point, from another store's directory, and from a bucket that was
 * emptied or replaced. Without it nothing is written there, and nothing there counts as missing or
 * removed.
 */
export class StoreMark {
  readonly #options: StoreMarkOptions;
  /** The mark that was recorded when the catalogue was last asked. */
  #recorded: string | undefined;

  constructor(options: StoreMarkOptions) {
    this.#options = options;
  }

  /**
   * True if the catalogue knows the store: it was used before, so that its place must exist.
   *
   * @throws ImportError `DatabaseUnavailable`
   */
  async isKnown(): Promise<boolean> {
    const { records, store } = this.#options;
    if ((await records.find(store)) !== undefined) return true;
    return (await records.listCopies(store, 1)).length > 0;
  }

  /**
   * Makes sure that the place is that of the store. A store that was never used, or was filled
   * before there were marks, gets its mark by the first write.
   *
   * @param purpose - `write` and `begin` also mark; `begin` always asks the catalogue, because
   *   another process may have replaced the mark
   * @throws ImportError `StoreUnavailable` when it is another place, or cannot be distinguished
   *   from another one
   */
  async require(place: MarkedPlace, purpose: "read" | "write" | "begin"): Promise<void> {
    const found = await place.read();
    const isKnown = found !== undefined && found === this.#recorded;
    // The catalogue is not asked again in the middle of a transaction, in which a step links,
    // publishes and discards copies.
    if (isKnown && purpose !== "begin") return;
    const { records, store, isReadOnly } = this.#options;
    const recorded = await records.find(store);
    if (recorded !== undefined) {
      // A mark is written to the place before the catalogue: another process may have written both
      // since the first look.
      const now = found === recorded ? found : await place.read();
      if (now !== recorded) throw this.#notOurs(place, now, recorded);
      this.#recorded = recorded;
      return;
    }
    await this.#requireListedCopy(place);
    if (purpose !== "read" && !isReadOnly) await this.#begin(place, found);
  }

  /**
   * Looks for the mark in the place, and writes nothing.
   *
   * @returns undefined while the catalogue, which knows the mark, is unreachable
   * @throws ImportError as {@link StoreMark.require}
   */
  async look(place: MarkedPlace): Promise<"present" | "none yet" | undefined> {
    try {
      await this.#options.records.find(this.#options.store);
    } catch {
      // A catalogue that is unreachable, or has no tables yet, is not the store's fault.
      return undefined;
    }
    await this.require(place, "read");
    return (await place.read()) === undefined ? "none yet" : "present";
  }

  /**
   * Makes a place that of the store, on the order of an operator: takes its mark, or writes one.
   *
   * @throws ImportError `ImageConflict` when the place belongs to another store; `PermissionDenied`
   *   when it has no mark and the store is read-only
   */
  async adopt(place: MarkedPlace): Promise<Adopted> {
    const { records, store, isReadOnly } = this.#options;
    const found = await place.read();
    if (found === undefined && isReadOnly) {
      throw new ImportError(
        "PermissionDenied",
        `Cannot mark the ${place.title}: store "${store}" is read-only`,
        { hint: "Adopt the place with a configuration in which the store is not `read_only`." },
      );
    }
    const mark = found ?? (await place.write(randomUUID()));
    const outcome = await this.#recordOver(() => records.replace(store, mark));
    if (outcome.store !== store) {
      throw new ImportError(
        "ImageConflict",
        `Cannot adopt the ${place.title} as store "${store}": it belongs to store "${outcome.store}"`,
        { hint: "Give each store a place of its own, or correct the configuration." },
      );
    }
    this.#recorded = mark;
    const listed = await records.listCopies(store, LOOKED_FOR);
    const held = await Promise.all(listed.map(({ key }) => place.holds(key)));
    return {
      mark,
      isNew: found === undefined,
      lookedFor: listed.length,
      found: held.filter(Boolean).length,
    };
  }

  /** Gives the store its first mark. Processes that do so at the same time agree on one mark. */
  async #begin(place: MarkedPlace, found: string | undefined): Promise<void> {
    const { records, store } = this.#options;
    // The place first: a mark that only the catalogue has would make the store unreachable.
    const mark = found ?? (await place.write(randomUUID()));
    const outcome = await this.#recordOver(() => records.record(store, mark));
    if (outcome.store !== store) throw this.#anothers(place, outcome.store);
    if (outcome.mark !== mark) throw this.#notOurs(place, mark, outcome.mark);
    this.#recorded = mark;
  }

  /**
   * Records a mark. A mark of a store that is no longer configured and has no copies moves to this
   * store: the store was renamed.
   */
  async #recordOver(record: () => Promise<RecordedMark>): Promise<RecordedMark> {
    const { records, store, isConfigured } = this.#options;
    const outcome = await record();
    if (outcome.store === store || isConfigured(outcome.store)) return outcome;
    if ((await records.listCopies(outcome.store, 1)).length > 0) return outcome;
    await records.forget(outcome.store);
    return record();
  }

  /**
   * Makes sure that a place without a recorded mark has one of the copies that the catalogue lists,
   * if it lists any. Otherwise it is an empty mount point, or another place.
   */
  async #requireListedCopy(place: MarkedPlace): Promise<void> {
    const { records, store } = this.#options;
    const listed = await records.listCopies(store, LOOKED_FOR);
    if (listed.length === 0) return;
    for (const { key } of listed) if (await place.holds(key)) return;
    throw this.#unavailable(
      `the ${place.title} has no mark, and none of the copies that the catalogue lists for this store`,
    );
  }

  #notOurs(place: MarkedPlace, found: string | undefined, recorded: string): ImportError {
    return this.#unavailable(
      found === undefined
        ? `the ${place.title} does not have the mark of this store (${MARK_NAME} with ${recorded})`
        : `the ${place.title} has the mark ${found}, but the mark of this store is ${recorded}`,
    );
  }

  #anothers(place: MarkedPlace, other: string): ImportError {
    return this.#unavailable(`the ${place.title} has the mark of store "${other}"`);
  }

  #unavailable(reason: string): ImportError {
    const { store } = this.#options;
    return new ImportError("StoreUnavailable", `Cannot use store "${store}": ${reason}`, {
      hint: `Mount its volume, or correct its place in the configuration. If this is the place of the store all the same, run \`image-import stores --adopt ${store}\`.`,
    });
  }
}

/**
 * The mark in the text of a mark file.
 *
 * @throws ImportError `StoreUnavailable` for other text
 */
export function parseMark(text: string, title: string): string {
  const [mark = ""] = text.split("\n", 1);
  if (isUuid(mark)) return mark;
  throw new ImportError(
    "StoreUnavailable",
    `Cannot read the mark ${MARK_NAME} of the ${title}: its first line must be a UUID`,
  );
}

/** The text of a mark file, for a mark. */
export function markText(mark: string): string {
  return `${mark}\nThe mark of a store of Image Import. Without it the store counts as unreachable.\n`;
}
