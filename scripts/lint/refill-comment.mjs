/**
 * Refills the paragraphs of a comment that have a line which is too wide. All others, lists,
 * tables and code stay as they are.
 *
 * @param {string} text - from `/**`, `/*` or `//` to its end
 * @param {number} indent - columns before the first line
 * @param {number} width - characters of a line, its indent included
 */
export function refill(text, indent, width) {
  const lines = text.split("\n").map((line, index) => (index === 0 ? line : line.trimStart()));
  const isTooWide = lines.some(
    (line) => indent + line.length + (line.startsWith("*") ? 1 : 0) > width,
  );
  if (!isTooWide) return text;
  const margin = " ".repeat(indent);
  if (lines[0]?.startsWith("//") === true) {
    const body = lines.map((line) => line.replace(/^\/\/ ?/, ""));
    return paragraphs(body, width - indent - 3)
      .map((line) => `//${line === "" ? "" : ` ${line}`}`)
      .join(`\n${margin}`);
  }
  const open = lines[0]?.startsWith("/**") === true ? "/**" : "/*";
  const body = text
    .slice(open.length, -2)
    .split("\n")
    .map((line) => line.trim().replace(/^\* ?/, ""));
  while (body[0] === "") body.shift();
  while (body.at(-1) === "") body.pop();
  const filled = paragraphs(body, width - indent - 3);
  return [open, ...filled.map((line) => ` *${line === "" ? "" : ` ${line}`}`), " */"].join(
    `\n${margin}`,
  );
}

/** @param {readonly string[]} lines @param {number} width */
function paragraphs(lines, width) {
  const isTooWide = (/** @type {string} */ line) => line.length > width;
  /** @type {string[][]} */
  const groups = [];
  for (const line of lines) {
    const begins =
      line === "" || /^\s*([-*|]|\d+\.|@\w|```| {2})/.test(line) || groups.at(-1)?.[0] === "";
    if (begins || groups.length === 0) groups.push([line]);
    else groups.at(-1)?.push(line);
  }
  return groups.flatMap((group) => (group.some(isTooWide) ? fill(group, width) : group));
}

/** @param {readonly string[]} group @param {number} width */
function fill(group, width) {
  const [first = ""] = group;
  // What follows a list's mark or a tag stands below its text.
  const hang = " ".repeat(
    /^(\s*(?:[-*]|\d+\.)\s+)/.exec(first)?.[1]?.length ?? (first.startsWith("@") ? 2 : 0),
  );
  /** @type {string[]} */
  const filled = [];
  let line = "";
  for (const word of group.join(" ").match(/\s*(?:\{@[^}]*\}|`[^`]*`|\S)+/g) ?? []) {
    const longer = line + word;
    if (longer.length > width && line.trim() !== "") {
      filled.push(line);
      line = hang + word.trim();
    } else {
      line = longer;
    }
  }
  return [...filled, line];
}
