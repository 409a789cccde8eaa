import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { vi } from "vitest";

/** The private file of an attempt that writes, as it is at one moment. */
export interface Part {
  readonly name: string;
  readonly sizeBytes: number;
  readonly inode: number;
}

// A copy that is cut to nothing needs much longer than this to be where it was: its rate is
// limited.
const LOOK_EVERY_MS = 10;

/** The one private file of an image in a directory; undefined when there is none. */
export function findPart(directory: string, imageId: string): Part | undefined {
  const names = readdirSync(directory).filter(
    (name) => name.startsWith(imageId) && name.endsWith(".part"),
  );
  const [name] = names;
  if (names.length > 1) throw new Error(`Several parts of one image: ${names.join(", ")}`);
  if (name === undefined) return undefined;
  const found = statSync(join(directory, name), { throwIfNoEntry: false });
  return found && { name, sizeBytes: found.size, inode: found.ino };
}

/** Waits until the private file of an image has at least so many bytes. */
export async function waitForPart(
  directory: string,
  imageId: string,
  atLeastBytes: number,
): Promise<Part> {
  return vi.waitUntil(
    () => {
      const part = findPart(directory, imageId);
      return part !== undefined && part.sizeBytes >= atLeastBytes && part;
    },
    { timeout: 60_000, interval: LOOK_EVERY_MS },
  );
}

/** The states of the private file of an image from one moment to its end. */
export interface PartHistory {
  /** All names it had, in the order in which they were seen. */
  readonly names: readonly string[];
  /** The smallest size that it had. */
  readonly smallestBytes: number;
}

/** Looks at the private file of an image again and again until `work` is done. */
export async function followPart(
  directory: string,
  imageId: string,
  work: Promise<unknown>,
): Promise<PartHistory> {
  const names = new Set<string>();
  let smallestBytes = Number.POSITIVE_INFINITY;
  const done = new AbortController();
  const end = (): void => {
    done.abort();
  };
  work.then(end, end);
  while (!done.signal.aborted) {
    const part = findPart(directory, imageId);
    if (part !== undefined) {
      names.add(part.name);
      smallestBytes = Math.min(smallestBytes, part.sizeBytes);
    }
    await sleep(LOOK_EVERY_MS);
  }
  return { names: [...names], smallestBytes };
}
