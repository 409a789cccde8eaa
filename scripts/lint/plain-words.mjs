// Words that hide the actor or the thing, each with a better way to write it. The rules are in
// CONTRIBUTING.md.

/**
 * @typedef {object} PlainWord
 * @property {RegExp} pattern - finds the word; global, ignores case
 * @property {string} advice - the way out, for the message
 */

/** @type {readonly PlainWord[]} */
export const PLAIN_WORDS = [
  {
    pattern: /\b(nobody|somebody|anybody|everybody|whoever|whomever|no one|someone|anyone)\b/gi,
    advice: "name the actor: this process, another attempt, the worker, the caller, the server",
  },
  { pattern: /\b(told|tells)\b(?! apart)/gi, advice: "write report, return, log or reject" },
  { pattern: /\bby (itself|themselves)\b/gi, advice: "write automatically, or name what does it" },
  { pattern: /\bfor good\b/gi, advice: "write permanently" },
  {
    pattern:
      /(?<!\bthere )\b(is|are|was|were|be) no (?!longer\b|more\b|less\b|fewer\b|larger\b|later\b|better\b)/gi,
    advice: "write is not a",
  },
  { pattern: /\b(is|are|was|were|be|been|being) away\b/gi, advice: "write unreachable" },
  { pattern: /\bwhat (came|comes|becomes?|became|has become) of\b/gi, advice: "write the result" },
  {
    pattern: /\bwhat (was|is|were|are|has been|had been) (staged|fetched|stored|made|copied)\b/gi,
    advice: "write the upload, the download, the copy or the product",
  },
  { pattern: /\banew\b/gi, advice: "write again, or from byte 0" },
  { pattern: /\bsurely\b/gi, advice: "write known to be, or leave it out" },
  {
    pattern: /\b(go|goes|going|gone|went) on\b(?! (to|PATH)\b)/gi,
    advice: "write continues, or resumes",
  },
  { pattern: /\bby and by\b/gi, advice: "write in the background" },
  { pattern: /\b(of|from|to) (his|hers)\b|\bwhom\b/gi, advice: "name the user or the owner" },
];

/** Words that a doc comment must not open with: they stand for a noun that is missing. */
export const HOLLOW_OPENINGS =
  /^(What|Whatever|Whether|Where|Wherever|Who|Whoever|Whose|Whom|How|Of|Which|That)\b/;

// Words may stand on two lines.
const PATTERNS = PLAIN_WORDS.map(({ pattern, advice }) => ({
  pattern: new RegExp(pattern.source.replaceAll(" ", "\\s+"), pattern.flags),
  advice,
}));

/**
 * Finds the worst words in a text.
 *
 * @param {string} text - a comment, a message or a page
 * @returns {{ index: number, word: string, advice: string }[]} where they stand, from the text's
 *   first character
 */
export function plainWordFindings(text) {
  return PATTERNS.flatMap(({ pattern, advice }) =>
    [...text.matchAll(pattern)].map(({ index, 0: word }) => ({ index, word, advice })),
  );
}
