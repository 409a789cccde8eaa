// ESLint rules for the prose in code: its words, how a doc comment opens, and the width of
// comments.
import { HOLLOW_OPENINGS, plainWordFindings } from "./plain-words.mjs";
import { refill } from "./refill-comment.mjs";

/** The width of .editorconfig and of the formatter, which leaves comments alone. */
const WIDTH = 100;

/** @typedef {ReturnType<import("eslint").SourceCode["getAllComments"]>[number]} Comment */

/** @type {import("eslint").Rule.RuleModule} */
const words = {
  meta: { type: "suggestion", schema: [], messages: { word: '"{{word}}": {{advice}}' } },
  create(context) {
    const { sourceCode } = context;
    /** @param {string} text @param {number} start - of the text in the file */
    const check = (text, start) => {
      for (const { index, word, advice } of plainWordFindings(text)) {
        const at = start + index;
        context.report({
          loc: {
            start: sourceCode.getLocFromIndex(at),
            end: sourceCode.getLocFromIndex(at + word.length),
          },
          messageId: "word",
          data: { word, advice },
        });
      }
    };
    return {
      Program() {
        for (const comment of sourceCode.getAllComments()) {
          // A line of a comment begins with its mark, which is not part of the sentence around it.
          const text = comment.value.replace(/\n\s*\*/g, (mark) => " ".repeat(mark.length));
          check(text, (comment.range?.[0] ?? 0) + 2);
        }
      },
      Literal(node) {
        if (typeof node.value === "string") check(node.raw ?? "", node.range?.[0] ?? 0);
      },
      TemplateElement(node) {
        check(node.value.raw, (node.range?.[0] ?? 0) + 1);
      },
    };
  },
};

/** @type {import("eslint").Rule.RuleModule} */
const docOpening = {
  meta: {
    type: "suggestion",
    schema: [],
    messages: { opening: 'A doc comment opens with a noun or a verb, not with "{{word}}"' },
  },
  create(context) {
    const { sourceCode } = context;
    return {
      Program() {
        for (const comment of sourceCode.getAllComments()) {
          if (comment.type !== "Block" || !comment.value.startsWith("*")) continue;
          const word = HOLLOW_OPENINGS.exec(comment.value.replace(/^[*\s]+/, ""))?.[0];
          if (word === undefined) continue;
          context.report({ loc: locationOf(comment), messageId: "opening", data: { word } });
        }
      },
    };
  },
};

/** @type {import("eslint").Rule.RuleModule} */
const commentWidth = {
  meta: {
    type: "layout",
    fixable: "whitespace",
    schema: [],
    messages: { width: `A comment is at most ${String(WIDTH)} characters wide` },
  },
  create(context) {
    const { sourceCode } = context;
    return {
      Program() {
        for (const { start, end, indent, comments } of blocksOf(sourceCode)) {
          const text = sourceCode.text.slice(start, end);
          const filled = refill(text, indent, WIDTH);
          if (filled === text) continue;
          const [first] = comments;
          context.report({
            loc: locationOf(first),
            messageId: "width",
            fix: (fixer) => fixer.replaceTextRange([start, end], filled),
          });
        }
      },
    };
  },
};

/** @param {Comment | undefined} comment */
function locationOf(comment) {
  return comment?.loc ?? { line: 1, column: 0 };
}

/**
 * Comments that stand on lines of their own, line comments below each other as one.
 *
 * @param {import("eslint").SourceCode} sourceCode
 */
function blocksOf(sourceCode) {
  /** @type {{ start: number, end: number, indent: number, comments: Comment[] }[]} */
  const blocks = [];
  for (const comment of sourceCode.getAllComments()) {
    // A shebang is not a type of estree.
    if (
      !["Line", "Block"].includes(comment.type) ||
      comment.loc == null ||
      comment.range === undefined
    )
      continue;
    const { line, column } = comment.loc.start;
    const before = sourceCode.lines[line - 1]?.slice(0, column) ?? "";
    const after = sourceCode.lines[comment.loc.end.line - 1]?.slice(comment.loc.end.column) ?? "";
    if (before.trim() !== "" || after.trim() !== "") continue;
    const last = blocks.at(-1);
    const above = last?.comments.at(-1);
    const continues =
      comment.type === "Line" &&
      above?.type === "Line" &&
      above.loc?.end.line === line - 1 &&
      last?.indent === column;
    if (last !== undefined && continues) {
      last.comments.push(comment);
      last.end = comment.range[1];
    } else {
      blocks.push({
        start: comment.range[0],
        end: comment.range[1],
        indent: column,
        comments: [comment],
      });
    }
  }
  return blocks;
}

export default { rules: { words, "doc-opening": docOpening, "comment-width": commentWidth } };
