import stringWidth from "string-width";
import wrapAnsi from "wrap-ansi";

/**
 * Lines of a text that fit into a width, the later ones indented. A word that is wider, such as a
 * path, stays in one piece: a user can still copy it.
 */
export function wrapped(text: string, width: number, indent = 0): string[] {
  // Done here because `wrapAnsi` does it, too: else its first line would not be the beginning of
  // the text.
  const glued = text.trimStart().normalize().replace(BEFORE_A_UNIT, GLUE);
  const [head = "", ...later] = wrapAnsi(glued, Math.max(1, width)).split("\n");
  const rest = later.length === 0 ? "" : glued.slice(head.length).trimStart();
  const indented = wrapAnsi(rest, Math.max(1, width - indent))
    .split("\n")
    .map((line) => " ".repeat(indent) + line);
  return [head, ...(later.length === 0 ? [] : indented)].map((line) => line.replaceAll(GLUE, " "));
}

// A number and its unit stay together.
const GLUE = "\u00A0";
const BEFORE_A_UNIT = /(?<=\d) (?=(?:[KMGTP]iB|B|ms|[smhd]|%)(?:[\s,;:)/]|$))/g;

/** Columns that a text takes on a terminal. */
export function widthOf(text: string): number {
  return stringWidth(text);
}

/** A text with spaces up to a width. */
export function padded(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - widthOf(text)));
}
