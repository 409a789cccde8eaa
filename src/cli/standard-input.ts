import { UsageError } from "./failure.ts";

/** The file that stands for standard input. */
export const STDIN = "-";

/**
 * Refuses a terminal as the source of an image: it would wait for bytes without a word.
 *
 * @param file - as the user named it
 */
export function requireReadable(file: string): void {
  if (file !== STDIN || !process.stdin.isTTY) return;
  throw new UsageError(
    "Cannot read an image from standard input: it is a terminal",
    "Give the command the data with `< FILE` or a pipe, or name the file in the place of -.",
  );
}
