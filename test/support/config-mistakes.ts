import { expect } from "vitest";

/**
 * Matches the failure that names just these mistakes of the configuration `path`, on whatever line
 * each of them is.
 */
export function mistakesOf(path: string, mistakes: readonly string[]): unknown {
  const texts = mistakes.map((mistake) => {
    const [place = "", ...rest] = mistake.split(": ");
    return `${escaped(place)}(?: \\(line \\d+\\))?: ${escaped(rest.join(": "))}`;
  });
  const start = escaped(`Cannot use the configuration "${path}": `);
  return expect.objectContaining({
    code: "BadConfiguration",
    message: expect.stringMatching(new RegExp(`^${start}${texts.join("; ")}$`)) as unknown,
  });
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
