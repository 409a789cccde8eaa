import type { Candidate } from "../db/reference-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { SeenBy } from "../domain/image-filter.ts";
import { fullId } from "../domain/reference.ts";
import type { Connections } from "./connections.ts";

/** The kinds of things that have an id. */
type Kind = "image" | "task";

/**
 * The id that a text of a user stands for, the first of these that fits:
 *
 * 1. a full id, in upper or lower case: this works without a catalogue;
 * 2. the exact name of one image;
 * 3. the beginning of the id of one image or task, in upper or lower case, with or without hyphens.
 *
 * @param seenBy - only images that this caller sees. Default: all
 * @throws ImportError `BadRequest` if several fit, listing them; `ImageNotFound`, `TaskNotFound`;
 *   `NotConfigured`, `DatabaseUnavailable`
 * @internal
 */
export async function resolveReference(
  connections: Connections,
  kind: Kind,
  reference: string,
  seenBy?: SeenBy,
): Promise<string> {
  const id = fullId(reference);
  if (id !== undefined) return id;
  const candidates = await candidatesOf(connections, kind, reference, seenBy);
  const [found] = candidates;
  if (found === undefined) throw unknown(kind, reference);
  if (candidates.length > 1) throw ambiguous(kind, reference, candidates);
  return found.id;
}

async function candidatesOf(
  connections: Connections,
  kind: Kind,
  reference: string,
  seenBy: SeenBy | undefined,
): Promise<Candidate[]> {
  try {
    const catalogue = await connections.catalogue();
    const records = await import("../db/reference-records.ts");
    const find = kind === "image" ? records.findReferencedImages : records.findReferencedTasks;
    return await catalogue.query((db) => find(db, reference, seenBy));
  } catch (error) {
    if (!(error instanceof ImportError)) throw error;
    throw new ImportError(error.code, `Cannot look up "${reference}": ${error.message}`, {
      cause: error,
      hint: `${error.hint} A full id needs no catalogue.`,
    });
  }
}

function unknown(kind: Kind, reference: string): ImportError {
  return kind === "image"
    ? new ImportError(
        "ImageNotFound",
        `No image has the name or id "${reference}", and no id begins with it`,
      )
    : new ImportError(
        "TaskNotFound",
        `No task has the id "${reference}", and no id begins with it`,
      );
}

// More than these would hide the message.
const MOST_LISTED = 10;

function ambiguous(kind: Kind, reference: string, candidates: readonly Candidate[]): ImportError {
  const listed = candidates.slice(0, MOST_LISTED).map(({ id, name, status, created_at }) => {
    const named = name === null || name === reference ? "" : `"${name}", `;
    return `${id} (${named}${status}, created ${created_at.toISOString()})`;
  });
  const isMore = candidates.length > MOST_LISTED;
  const count = isMore ? `more than ${MOST_LISTED}` : String(candidates.length);
  const shared = candidates.every(({ name }) => name === reference)
    ? "have this name"
    : "have an id that begins with it";
  return new ImportError(
    "BadRequest",
    `Cannot choose one ${kind} by "${reference}": ${count} ${kind}s ${shared}: ${listed.join(", ")}${isMore ? ", …" : ""}`,
    { hint: "Name one of them by its id, or by enough of its beginning." },
  );
}
