import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeUnlessThere } from "../bytes/durable-file.ts";
import { hasErrorCode } from "../bytes/system-error.ts";

// File with the id of the staging volume: a worker that serves this id can reach its bytes, also
// after a restart elsewhere.
const NODE_FILE = ".image-import-node";
const NODE_ID = /^[0-9a-f]{12}$/;

/**
 * The id of the volume of a staging area: twelve hex digits. A volume without one gets it.
 *
 * @throws Error when its file holds something else
 */
export async function volumeIdOf(root: string): Promise<string> {
  const known = await readVolumeId(root);
  if (known !== undefined) return known;
  // Of two workers that start at once, the first wins.
  const path = join(root, NODE_FILE);
  await writeUnlessThere(path, `${randomBytes(6).toString("hex")}\n`, 0o644);
  const chosen = await readVolumeId(root);
  if (chosen === undefined)
    throw new Error(`Cannot read the id of the staging volume: "${path}" does not hold one`);
  return chosen;
}

/** The id of the volume of a directory; undefined if it has none. @throws as {@link volumeIdOf} */
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
