import { isUuid } from "./import-request.ts";

/** The ids between two UUIDs, both included. */
export interface IdRange {
  readonly first: string;
  readonly last: string;
}

/**
 * A full id in the spelling of this project, lower case; undefined if the text is not a full id.
 */
export function fullId(reference: string): string | undefined {
  const id = reference.toLowerCase();
  return isUuid(id) ? id : undefined;
}

/**
 * The ids that begin with a text, in upper or lower case, with or without hyphens; undefined if no
 * id can.
 */
export function idsThatBeginWith(reference: string): IdRange | undefined {
  if (!/^[0-9a-f][0-9a-f-]*$/i.test(reference)) return undefined;
  const digits = reference.toLowerCase().replaceAll("-", "");
  const first = hyphenated(digits.padEnd(32, "0"));
  // Hyphens are at their places in an id, or there are none.
  const isPlaced = !reference.includes("-") || first.startsWith(reference.toLowerCase());
  const last = hyphenated(digits.padEnd(32, "f"));
  return digits.length <= 32 && isPlaced ? { first, last } : undefined;
}

// As many as the first group of an id has.
const FEWEST_DIGITS = 8;

/**
 * True if the id of an image was found by a few digits. The user may have meant a name that no
 * image has any more, such as `cafe` or `2204`.
 */
export function isFoundByFewDigits(id: string, reference: string): boolean {
  const digits = reference.toLowerCase().replaceAll("-", "");
  return digits.length < FEWEST_DIGITS && id.replaceAll("-", "").startsWith(digits);
}

function hyphenated(digits: string): string {
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
