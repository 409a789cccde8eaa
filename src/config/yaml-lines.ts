import { isMap, isScalar, isSeq, LineCounter, parseDocument, type Document, type Node } from "yaml";

/** A YAML document, and the lines of its values. */
export class YamlLines {
  readonly #document: Document;
  readonly #lines = new LineCounter();

  /** @throws YAMLParseError with the line of the mistake */
  constructor(text: string) {
    this.#document = parseDocument(text, { lineCounter: this.#lines });
    const [error] = this.#document.errors;
    if (error !== undefined) throw error;
  }

  /** The document as plain values; null if it is empty. */
  get value(): unknown {
    return this.#document.toJS() as unknown;
  }

  /**
   * The line, from 1, of the deepest key or list item of `path` that is in the document; undefined
   * if none of them is.
   */
  lineOf(path: readonly PropertyKey[]): number | undefined {
    let node: unknown = this.#document.contents;
    let line: number | undefined;
    for (const step of path) {
      const [place, value] = childOf(node, step);
      if (place?.range == null) return line;
      ({ line } = this.#lines.linePos(place.range[0]));
      node = value;
    }
    return line;
  }
}

/** The node that names the child, and the child itself. */
function childOf(node: unknown, step: PropertyKey): [Node | undefined, unknown] {
  if (isSeq<Node>(node)) {
    const item = node.items[Number(step)];
    return [item, item];
  }
  if (!isMap<Node>(node)) return [undefined, undefined];
  const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
  return [pair?.key, pair?.value];
}
