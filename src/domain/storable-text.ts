// JSON escapes NUL and halves of surrogate pairs, which Postgres cannot store.
const NOT_STORABLE = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f][0-9a-f]{2})/;

/** True if Postgres keeps this value, a text or any JSON, as it is. */
export function isStorable(value: unknown): boolean {
  return !NOT_STORABLE.test(JSON.stringify(value));
}

/**
 * A text that quotes something from outside (bytes of an image, the error of a user's transform) as
 * Postgres can store it: a statement with another text fails at each retry.
 */
export function storableText(text: string): string {
  return text.replaceAll("\0", "\uFFFD").replace(/\p{Surrogate}/gu, "\uFFFD");
}
