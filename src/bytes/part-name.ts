import { randomBytes } from "node:crypto";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";

const PART =
  /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\.\d+\.[0-9a-f]{8}\.part$/;

/** A private name for one attempt: image id, epoch, and eight random hex digits. */
export function newPartName(imageId: string, epoch: number): string {
  return `${imageId}.${String(epoch)}.${randomBytes(4).toString("hex")}.part`;
}

/** The key for which a private name was made. */
export function keyOfPart(part: string): string {
  return part.replace(/\.[0-9a-f]{8}\.part$/, "");
}

/** True if this is the private name of an attempt. */
export function isPartName(name: string): boolean {
  return PART.test(name);
}

/**
 * The private files in a directory that were last written more than `olderThanMs` ago. Files with
 * other names belong to other programs, and are not listed.
 *
 * @param isOurs - true for the names to list; default: private names of attempts
 */
export async function listPartsIn(
  directory: string,
  olderThanMs: number,
  isOurs: (name: string) => boolean = isPartName,
): Promise<string[]> {
  const parts: string[] = [];
  for (const name of await readdir(directory)) {
    if (!isOurs(name)) continue;
    const found = await stat(join(directory, name)).catch(() => undefined);
    if (found !== undefined && Date.now() - found.mtimeMs > olderThanMs) parts.push(name);
  }
  return parts;
}
