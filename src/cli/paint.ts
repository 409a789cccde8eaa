/** Colours of a terminal, or none. */
export interface Paint {
  readonly good: (text: string) => string;
  readonly bad: (text: string) => string;
  readonly notice: (text: string) => string;
}

/** Text as it is. */
export const PLAIN: Paint = { good: asItIs, bad: asItIs, notice: asItIs };

/** Green, red and yellow. */
export const COLOURED: Paint = { good: colour(32), bad: colour(31), notice: colour(33) };

function colour(code: number): (text: string) => string {
  return (text) => `\u001B[${String(code)}m${text}\u001B[39m`;
}

function asItIs(text: string): string {
  return text;
}
