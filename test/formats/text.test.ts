import { describe, expect, it } from "vitest";
import { CONTAINER_FORMATS, DISK_FORMATS } from "../../src/domain/disk-format.ts";
import { patched } from "../support/crafted-images.ts";
import { judged } from "../support/judged.ts";

const PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>…</body></html>\n";
const S3_ERROR =
  '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code><Key>a</Key></Error>';

/** A text in 16 bits. @param mark - true: it begins with a byte order mark */
function wide(written: string, order: "le" | "be", mark: boolean): Buffer {
  const bytes = Buffer.from((mark ? "\ufeff" : "") + written, "utf16le");
  return order === "le" ? bytes : bytes.swap16();
}

function larger(written: string): Buffer {
  return Buffer.from(written.repeat(Math.ceil(300_000 / written.length)));
}

describe("a text", () => {
  it.each([
    ["an HTML page", Buffer.from(PAGE)],
    ["an HTML page", Buffer.from(PAGE.toUpperCase())],
    ["an HTML page", Buffer.from(`\ufeff${PAGE}`)],
    ["an HTML page", Buffer.from(`\r\n \t${PAGE}`)],
    ["an HTML page", Buffer.from(`<!-- a comment\n -->\n<!-- another -->${PAGE}`)],
    ["an HTML page", Buffer.from("<html>Not found")],
    [
      "an HTML page",
      Buffer.from('<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C">\n<html/>'),
    ],
    ["an HTML page", Buffer.from("<head><title>302 Found</title></head>")],
    ["an HTML page", Buffer.from("<html>Grüße</html>", "latin1")],
    ["an HTML page", Buffer.concat([Buffer.from(PAGE), Buffer.alloc(4096)])],
    ["an HTML page", Buffer.concat([Buffer.from(PAGE), Buffer.alloc(4096, 0xd7)])],
    ["an HTML page", larger(PAGE)],
    ["an HTML page", wide(PAGE, "le", true)],
    ["an HTML page", wide(PAGE, "be", true)],
    ["an HTML page", wide(PAGE, "le", false)],
    ["an HTML page", wide(PAGE, "be", false)],
    ["an XML text, the error of a server", Buffer.from(S3_ERROR)],
    ["an XML text, the error of a server", Buffer.from("<Error><Code>AccessDenied</Code></Error>")],
    ["an XML text", Buffer.from('<?xml version="1.0"?><domain type="kvm"/>')],
    ["an XML text", Buffer.from("<list/>")],
    ["a metalink file", Buffer.from('<?xml version="1.0"?>\n<metalink version="3.0"/>')],
    ["an OVF descriptor", Buffer.from('<?xml version="1.0"?>\n<!--x--><ovf:Envelope/>')],
    ["a JSON text", Buffer.from('{"error": {"code": 404}}')],
    ["a JSON text", Buffer.from("\n\n[ ]")],
    ["a JSON text", Buffer.from("[1, 2]")],
    ["a JSON text", larger('[{"name": "日本語"}, "x"],\n')],
    ["a plain text", Buffer.from("404 Not Found")],
    ["a plain text", Buffer.from("Forbidden")],
    ["a plain text", Buffer.from("No such file or directory\n")],
    ["a plain text", Buffer.from("---\nkey: value\n")],
    ["a plain text", Buffer.from("Zugriff verweigert für Gäste\n", "latin1")],
    ["a plain text", Buffer.from("https://example.org/disk.img")],
    ["a plain text", Buffer.from(`${"a raw test disk\n".repeat(4096)}.`)],
    ["a plain text", Buffer.from("a raw test disk\n".repeat(2048))],
    ["a script", Buffer.from("#!/bin/sh\nexit 1\n")],
    [
      "a pointer of Git LFS",
      Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:1"),
    ],
    ["a list of checksums", Buffer.from(`${"0af1".repeat(16)}  disk.qcow2\n`)],
    ["a list of checksums", Buffer.from(`SHA256 (disk.raw) = ${"0af1".repeat(16)}\n`)],
    ["a key, signature", Buffer.from("-----BEGIN PGP SIGNATURE-----\n\niQIz\n")],
  ])("is named: %s", async (what, bytes) => {
    const verdict = await judged(bytes);

    expect(verdict).toMatchObject({ format: "text", safe: false, virtualSizeBytes: null });
    expect(verdict.checks["content"]).toMatch(new RegExp(`^it is ${what}.*, not a disk$`));
  });

  it("is a raw disk where texts are allowed", async () => {
    const verdict = await judged(
      Buffer.from("404 Not Found"),
      { allowText: true },
      {
        diskFormat: "raw",
        containerFormat: "bare",
      },
    );

    expect(verdict).toMatchObject({ format: "raw", safe: true });
  });

  it("is refused, whatever it is declared as and however lax the policy is", async () => {
    const lax = { requireImageFormatMatch: false };
    const bodies = [Buffer.from(PAGE), Buffer.from(S3_ERROR), Buffer.from("{}"), Buffer.alloc(0)];

    for (const diskFormat of DISK_FORMATS) {
      for (const containerFormat of CONTAINER_FORMATS) {
        for (const bytes of bodies) {
          const verdict = await judged(bytes, lax, { diskFormat, containerFormat });

          expect(Object.keys(verdict.hints)).toContain("content");
        }
      }
    }
  });

  it.each([
    ["one letter", Buffer.from("x")],
    ["a few bytes", Buffer.from("abc")],
    ["one letter again and again", Buffer.alloc(100_000, "x")],
    ["zeros", Buffer.alloc(512)],
    ["a text before zeros", patched(Buffer.alloc(4096), [0, "just a label\n"])],
    ["a text of 64 KiB before a disk", Buffer.concat([larger("a b c d\n"), Buffer.alloc(4096)])],
    ["a line again and again, in whole sectors", Buffer.from("a raw test disk\n".repeat(4096))],
    ["a text of zeros and ones", Buffer.from("<\0\x01\0\x02\0\x03\0\x04\0\x05\0\x06\0")],
    ["an ext label", patched(Buffer.alloc(8192), [1024 + 120, "{}"], [1080, "\x53\xef"])],
  ])("is not recognised in %s", async (_, bytes) => {
    expect(await judged(bytes)).toMatchObject({ format: "raw", checks: { content: "pass" } });
  });
});

describe("an image without a byte", () => {
  it("is refused, with the way out", async () => {
    expect(await judged(Buffer.alloc(0))).toMatchObject({
      safe: false,
      checks: { content: "it is empty" },
      hints: { content: expect.stringContaining("Supply its data again") as string },
    });
  });
});
