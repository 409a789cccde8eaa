import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeUnlessThere } from "../bytes/durable-file.ts";
import { hasErrorCode } from "../bytes/system-error.ts";
import { ImportError } from "../domain/import-failure.ts";

// File with the id of the staging volume: a worker that serves this id can reach its bytes, also
// after a restart elsewhere.
const NODE_FILE = ".image-import-node";
const NODE_ID = /^[0-9a-f]{12}$/;

/** The volumes that this host has used, as a catalogue records them. */
export interface VolumeRecords {
  /**
   * The id of the volume that this host last used at this path; undefined: it has used none there.
   *
   * @throws ImportError `DatabaseUnavailable`
   */
  find(root: string): Promise<string | undefined>;
  /** Records the volume that this host uses at this path, if the catalogue can take it now. */
  record(root: string, node: string): Promise<void>;
}

/**
 * The id of the volume of a staging area: twelve hex digits. A volume without one gets it, unless
 * this host has used another volume at this path: then the directory is the empty mount point.
 *
 * @param records - default: none, so that each volume without an id is a new one
 * @throws ImportError `StagingUnavailable` for an empty mount point, `DatabaseUnavailable`; Error
 *   when its file holds something else
 */
export async function volumeIdOf(root: string, records?: VolumeRecords): Promise<string> {
  const node = (await readVolumeId(root)) ?? (await newVolumeId(root, await records?.find(root)));
  await records?.record(root, node);
  return node;
}

async function newVolumeId(root: string, usedBefore: string | undefined): Promise<string> {
  const path = join(root, NODE_FILE);
  if (usedBefore !== undefined) {
    throw new ImportError(
      "StagingUnavailable",
      `Cannot use the staging area "${root}": its volume has no id, and this host used the volume ${usedBefore} there`,
      {
        hint: `Mount the staging volume. To use a new volume there, give it an id: \`openssl rand -hex 6 > ${path}\`; the uploads on the earlier volume then wait until that one is mounted. If the earlier volume is lost, give the new one its id, ${usedBefore}: those uploads then fail.`,
      },
    );
  }
  // If two workers start at once, the id of the first one counts.
  await writeUnlessThere(path, `${randomBytes(6).toString("hex")}\n`, 0o644);
  const chosen = await readVolumeId(root);
  if (chosen === undefined)
    throw new Error(`Cannot read the id of the staging volume: "${path}" does not hold one`);
  return chosen;
}

/**
 * The id of the volume of a directory; undefined if it has none.
 *
 * @throws Error when the file of the id holds something else
 */
export async function readVolumeId(root: string): Promise<string | undefined> {
  const path = join(root, NODE_FILE);
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    if (hasErrorCode(error, "ENOENT")) return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const id = text.trim();
  if (!NODE_ID.test(id))
    throw new Error(`Cannot read the id of the staging volume: "${path}" does not hold one`);
  return id;
}
