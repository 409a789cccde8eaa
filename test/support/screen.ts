import { Writable } from "node:stream";

/**
 * A stream, and what a person sees who looks at it: lines as a terminal shows them, escape
 * sequences obeyed.
 */
export class Screen extends Writable {
  columns: number;
  readonly #lines: string[] = [""];
  #row = 0;
  #column = 0;

  constructor({ columns = 80 }: { readonly columns?: number } = {}) {
    super({ decodeStrings: false });
    this.columns = columns;
  }

  /** The lines shown, without blanks at their ends and without empty lines at the end. */
  get text(): string {
    return this.#lines
      .map((line) => line.trimEnd())
      .join("\n")
      .trimEnd();
  }

  override _write(text: string, _encoding: BufferEncoding, written: () => void): void {
    for (const [piece, parameter = "", command] of text.matchAll(
      /\u001B\[([?\d]*)([A-Za-z])|[^]/gu,
    )) {
      if (command === undefined) this.#put(piece);
      else this.#obey(command, parameter);
    }
    written();
  }

  #put(character: string): void {
    if (character === "\r") this.#column = 0;
    else if (character === "\n") this.#goDown();
    else {
      const line = (this.#lines[this.#row] ?? "").padEnd(this.#column);
      this.#lines[this.#row] =
        line.slice(0, this.#column) + character + line.slice(this.#column + 1);
      this.#column += 1;
    }
  }

  #goDown(): void {
    this.#row += 1;
    this.#column = 0;
    if (this.#row === this.#lines.length) this.#lines.push("");
  }

  #obey(command: string, parameter: string): void {
    const count = Number(parameter || "1");
    switch (command) {
      case "A":
        this.#row = Math.max(0, this.#row - count);
        break;
      case "G":
        this.#column = count - 1;
        break;
      case "K":
        this.#erase(parameter);
        break;
      case "J":
        this.#erase("0");
        this.#lines.splice(this.#row + 1);
        break;
      case "m":
        break;
      default:
        throw new Error(`The screen does not know ESC [ ${parameter} ${command}`);
    }
  }

  #erase(parameter: string): void {
    const line = this.#lines[this.#row] ?? "";
    this.#lines[this.#row] = parameter === "2" ? "" : line.slice(0, this.#column);
  }
}
