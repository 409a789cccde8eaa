/** A text that Markdown shows as it is, on one line, also in a cell of a table. */
export function markdownText(text: string): string {
  return (
    text
      .replace(/\s*[\r\n\u2028\u2029]+\s*/g, " ")
      .replace(/[\\`*[\]<>|~&]/g, "\\$&")
      // Within a word, as in `disk_2.raw`, an underscore has no meaning.
      .replace(/(?<![\p{L}\p{N}])_|_(?![\p{L}\p{N}])/gu, "\\_")
  );
}

/**
 * A text of at most this many characters. A longer text is cut, and ends with `…`. A character of
 * several code units is never cut in the middle.
 */
export function cutTo(most: number, text: string): string {
  const characters = Array.from(text);
  return characters.length <= most ? text : `${characters.slice(0, most - 1).join("")}…`;
}
