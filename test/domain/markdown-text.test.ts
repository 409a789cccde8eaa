import { describe, expect, it } from "vitest";
import { cutTo, markdownText } from "../../src/domain/markdown-text.ts";

describe("markdownText()", () => {
  it.each([
    { text: "disk_1.raw", markdown: "disk_1.raw" },
    { text: "_hidden_", markdown: "\\_hidden\\_" },
    { text: "a|b", markdown: "a\\|b" },
    { text: "a \\| b", markdown: "a \\\\\\| b" },
    { text: "**bold** `code` ~gone~", markdown: "\\*\\*bold\\*\\* \\`code\\` \\~gone\\~" },
    { text: "[a](b) <img src=x> &amp;", markdown: "\\[a\\](b) \\<img src=x\\> \\&amp;" },
    { text: "one\n\n| two\r\nthree", markdown: "one \\| two three" },
  ])("shows $text as it is", ({ text, markdown }) => {
    expect(markdownText(text)).toBe(markdown);
  });
});

describe("cutTo()", () => {
  it("keeps a text of as many characters, and cuts a longer one between two characters", () => {
    expect(cutTo(4, "💾💾💾💾")).toBe("💾💾💾💾");
    expect(cutTo(3, "💾💾💾💾")).toBe("💾💾…");
  });
});
