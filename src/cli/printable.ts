const ESCAPES: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu;
// JSON escapes the others itself, and has line breaks between its values.
const UNPRINTABLE_IN_JSON = /[\u007f-\u009f\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu;

/**
 * A text on one line: control characters, and characters that reverse the order of what follows,
 * are shown as escapes.
 */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => ESCAPES[character] ?? escaped(character));
}

/** A text of several lines, each of them as {@link printable} shows it. */
export function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}

/** The JSON of a document, without characters that a terminal obeys. It is the same document. */
export function printableJson(document: unknown, indent?: number): string {
  return escapedInQuotes(JSON.stringify(document, null, indent));
}

/** JSON or YAML with such characters as escapes. All of them must be in double quotes. */
export function escapedInQuotes(text: string): string {
  return text.replace(UNPRINTABLE_IN_JSON, escaped);
}

/** True if a terminal obeys a character of this text. */
export function isUnprintable(text: string): boolean {
  return text.search(UNPRINTABLE) !== -1;
}

function escaped(character: string): string {
  return `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, "0")}`;
}
