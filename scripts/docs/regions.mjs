/** The marks around what is generated: `<!-- generated: NAME -->` … `<!-- /generated -->`. */
const REGION = /<!-- generated: (.+?) -->\n([\s\S]*?)<!-- \/generated -->/g;

/**
 * Fills the generated regions of a page.
 *
 * @param {string} text - of the page
 * @param {(name: string) => string} contentOf - the content of a region, as Markdown
 * @returns {{ text: string, names: string[] }} the page as it should be, and its regions
 */
export function fillRegions(text, contentOf) {
  /** @type {string[]} */
  const names = [];
  const filled = text.replace(REGION, (_whole, /** @type {string} */ name) => {
    names.push(name);
    const content = contentOf(name).trim();
    return `<!-- generated: ${name} -->\n\n${content}\n\n<!-- /generated -->`;
  });
  return { text: filled, names };
}

/**
 * A paragraph, its lines no longer than a screen.
 *
 * @param {string} text - on one line
 * @param {object} [options]
 * @param {string} [options.first] - before the first line
 * @param {string} [options.rest] - before all others
 */
export function wrapped(text, { first = "", rest = "" } = {}) {
  /** @type {string[]} */
  const lines = [];
  let line = first;
  let isEmpty = true;
  // A span of code is not broken: its spaces are the reader's to copy.
  for (const word of text.match(/(?:`[^`]*`|\S)+/g) ?? []) {
    if (!isEmpty && line.length + 1 + word.length > 100) {
      lines.push(line);
      line = rest;
      isEmpty = true;
    }
    line += isEmpty ? word : ` ${word}`;
    isEmpty = false;
  }
  return [...lines, line].join("\n");
}
