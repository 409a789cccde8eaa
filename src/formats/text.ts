import type { Detector } from "./detector.ts";
import type { ImageBytes } from "./image-bytes.ts";

/**
 * A text. A server may send one in place of an image, such as a login page, an error or a listing,
 * and some texts are kept beside images, such as checksums. No program boots from a text, whatever
 * format was declared.
 */
export const text: Detector = {
  format: "text",
  // The descriptor of a VMDK and other formats also begin with a text.
  isWeak: true,
  foreign: {
    what: "a text",
    kind: "other",
    wayOut: "Import the disk image itself: this file is a text.",
  },
  matches: (image) => textKind(image) !== undefined,
  examine: (image) => ({
    virtualSizeBytes: null,
    checks: { content: `it is ${textKind(image) ?? "a text"}, not a disk` },
  }),
};

/** A text without a mark of its kind. */
const PLAIN = "a plain text";
const SECTOR_BYTES = 512;
const SMALLEST_DISK_BYTES = 64 * 1024;

/** The kinds of texts, by their starts after byte order mark, white space and markup comments. */
const KINDS: readonly (readonly [start: RegExp, what: string])[] = [
  [/^<(?:!doctype\s+html|html|head|body|title|script|meta|h1|center|pre)\b/i, "an HTML page"],
  [/^<\w*:?envelope\b/i, "an OVF descriptor, whose disks are other files"],
  [/^<metalink\b/i, "a metalink file"],
  [/^<error\b/i, "an XML text, the error of a server"],
  [/^<[\w!?/]/, "an XML text"],
  [/^[[{]\s*(?:["{[\]}\d-]|true|false|null)/, "a JSON text"],
  [/^version https:\/\/git-lfs/, "a pointer of Git LFS, in place of the file"],
  [/^-----BEGIN /, "a key, signature or certificate"],
  [/^#!/, "a script"],
  [/^(?:error|forbidden|unauthorized|denied|null|true|false|ok)\W*$/i, PLAIN],
  [/^(?:\\?[\da-f]{32,128}[ \t]+[ *]?\S|(?:MD5|SHA\d+) ?\()/i, "a list of checksums"],
];

/** Markup that is a page even if other bytes follow, such as zeros up to a whole sector. */
const PAGE = /^(?:<!doctype\s+html|<html\b|<\?xml\s)/i;

/** The start of such a page. */
const PAGE_BYTES = 48;

const ENCODINGS = ["utf-8", "utf-16le", "utf-16be"] as const;

function textKind({ first, last, sizeBytes }: ImageBytes): string | undefined {
  const isWhole = first.length === sizeBytes;
  for (const encoding of ENCODINGS) {
    const start = decoded(first, encoding, !isWhole);
    const page =
      start ??
      decoded(pageOf(first, encoding), encoding, true) ??
      decoded(first.subarray(0, PAGE_BYTES), encoding, true);
    if (page !== undefined && PAGE.test(begin(page))) return kindOf(page);
    if (start === undefined) continue;
    // The end of a larger text may begin within a character.
    const isTextToItsEnd =
      isWhole || [0, 1, 2, 3].some((skipped) => isText(last.subarray(skipped), encoding));
    if (!isTextToItsEnd || !looksWritten(start)) continue;
    const kind = kindOf(start);
    if (kind !== PLAIN || !mayBeDisk(sizeBytes)) return kind;
  }
  return undefined;
}

/**
 * True for the size of a disk rather than of a text or a page: whole sectors, 64 KiB or more. Test
 * data for raw disks is often a repeated line.
 */
function mayBeDisk(sizeBytes: number): boolean {
  return sizeBytes % SECTOR_BYTES === 0 && sizeBytes >= SMALLEST_DISK_BYTES;
}

function kindOf(decodedText: string): string {
  const start = begin(decodedText);
  const [, kind] = KINDS.find(([mark]) => mark.test(start)) ?? [];
  if (kind !== "an XML text") return kind ?? PLAIN;
  // The kind of an XML text shows in its first element, not in its declaration.
  const root = start.replace(
    /^(?:<\?[^>]{0,500}\?>|<!--[^]{0,2000}?-->|<!doctype[^>]{0,500}>|\s)+/i,
    "",
  );
  const [, ofRoot] = KINDS.find(([mark]) => mark.test(root)) ?? [];
  return ofRoot ?? kind;
}

/**
 * The start of a text, without byte order mark, white space and comments before the first element.
 */
function begin(decodedText: string): string {
  return decodedText.slice(0, 4096).replace(/^(?:[\s\ufeff]|<!--[^]{0,2000}?-->)+/, "");
}

/** The bytes up to the first zero, which are the page if it was padded with zeros. */
function pageOf(first: Buffer, encoding: (typeof ENCODINGS)[number]): Buffer {
  const zero = first.indexOf(encoding === "utf-8" ? "\0" : "\0\0", "latin1");
  const end = zero === -1 ? first.length : zero;
  return first.subarray(0, Math.min(end, 4096));
}

/** The text of bytes; undefined when they are not a text of this encoding. */
function decoded(
  bytes: Buffer,
  encoding: (typeof ENCODINGS)[number],
  isPart: boolean,
): string | undefined {
  if (bytes.length === 0) return undefined;
  // Many binary files decode as UTF-16. Only ASCII counts, by its zero in the right half.
  if (encoding !== "utf-8" && !isWideAscii(bytes, encoding)) return undefined;
  try {
    const decoder = new TextDecoder(encoding, { fatal: true });
    const result = decoder.decode(bytes, { stream: isPart });
    return hasControls(result) ? undefined : result;
  } catch {
    return encoding === "utf-8" && isMostlyText(bytes) ? bytes.toString("latin1") : undefined;
  }
}

function isText(bytes: Buffer, encoding: (typeof ENCODINGS)[number]): boolean {
  return decoded(bytes, encoding, false) !== undefined;
}

function isWideAscii(bytes: Buffer, encoding: "utf-16le" | "utf-16be"): boolean {
  const high = encoding === "utf-16le" ? 1 : 0;
  const pairs = Math.min(64, Math.floor(bytes.length / 2));
  const zeros = Array.from({ length: pairs }, (_, index) => bytes[2 * index + high]).filter(
    (byte) => byte === 0,
  ).length;
  return pairs >= 4 && zeros >= pairs * 0.75;
}

/**
 * True if a text has control characters other than tab, newlines, form feed, backspace and escape.
 */
function hasControls(decodedText: string): boolean {
  return /[\0-\x07\x0b\x0e-\x1a\x1c-\x1f\x7f]/.test(decodedText);
}

/**
 * True for bytes without controls and with few beyond ASCII: also Latin-1 and Windows' encodings.
 */
function isMostlyText(bytes: Buffer): boolean {
  if (hasControls(bytes.toString("latin1"))) return false;
  const beyond = bytes.filter((byte) => byte >= 0x80).length;
  return beyond <= bytes.length / 8;
}

/**
 * A text without words needs this many different characters: fewer are bytes that happen to be
 * printable, such as one letter again and again.
 */
const LEAST_CHARACTERS = 12;

function looksWritten(decodedText: string): boolean {
  const part = decodedText.slice(0, 4096);
  const different = new Set(part).size;
  const hasWords = /\S\s+\S|\S\n$/.test(part.replace(/^\ufeff/, ""));
  const isMarked = KINDS.some(([mark]) => mark.test(begin(part)));
  return isMarked || different >= LEAST_CHARACTERS || (hasWords && different >= 4);
}
