import { wrapped } from "./regions.mjs";

/** @typedef {import("./markdown.mjs").Page} Page */

/** The form of a decision's title. */
export const DECISION_TITLE = /^# (\d{4}): (.+)$/;

/**
 * The decisions, newest first, each with its date.
 *
 * @param {readonly Page[]} decisions
 */
export function decisionIndex(decisions) {
  return decisions
    .map(({ path, lines }) => {
      const [, number = "", title = ""] = DECISION_TITLE.exec(lines[0] ?? "") ?? [];
      return { number, title, date: dateOf(lines) ?? "", file: path.split("/").at(-1) ?? "" };
    })
    .sort((a, b) => (a.number < b.number ? 1 : -1))
    .map(({ number, title, date, file }) =>
      wrapped(`[${number}](${file}): ${title} (${date})`, { first: "- ", rest: "  " }),
    )
    .join("\n");
}

/**
 * The date of a decision, which stands below its title.
 *
 * @param {readonly string[]} lines
 */
export function dateOf(lines) {
  return /^Date: (\d{4}-\d{2}-\d{2})$/.exec(lines[2] ?? "")?.[1];
}
