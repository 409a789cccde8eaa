import { describe, expect, it } from "vitest";
import {
  craftedVmdk,
  craftedVmdkStream,
  DESCRIPTOR,
  le,
  patched,
} from "../support/crafted-images.ts";
import { failuresOf, judged } from "../support/judged.ts";

const image = craftedVmdk();
const stream = craftedVmdkStream();
const FOOTER = stream.length - 1024;
const MARKER = stream.length - 1536;

describe("vmdk", () => {
  it.each([
    ["sparse", image],
    ["a stream with a footer", stream],
    ["with lines that end as in Windows", craftedVmdk(DESCRIPTOR.replaceAll("\n", "\r\n"))],
  ])("is accepted as %s", async (_, bytes) => {
    expect(await judged(bytes)).toMatchObject({
      format: "vmdk",
      virtualSizeBytes: 10 * 1024 * 1024,
      safe: true,
      tolerated: [],
    });
  });

  it.each([
    ["a flat extent", DESCRIPTOR.replace("SPARSE", "FLAT"), "extent", "another file"],
    ["a path", DESCRIPTOR.replace("image.vmdk", "/etc/shadow"), "extent", "another file"],
    ["a path of Windows", DESCRIPTOR.replace("image", "C:\\x"), "extent", "another file"],
    ["a path upwards", DESCRIPTOR.replace("image", ".."), "extent", "another file"],
    ["two extents", `${DESCRIPTOR}RW 1 SPARSE "b.vmdk"\n`, "extent", "has 2 extents"],
    ["no extent", DESCRIPTOR.replace(/^RW.*$/m, ""), "extent", "has 0 extents"],
    ["an extent of another size", DESCRIPTOR.replace("20480", "20481"), "extent", "20481 sectors"],
    [
      "a type of many files",
      DESCRIPTOR.replace("monolithicSparse", "custom"),
      "create_type",
      '"custom"',
    ],
    ["no type", DESCRIPTOR.replace(/^createType.*$/m, ""), "create_type", "states no createType"],
    ["a second type", `${DESCRIPTOR}createType="vmfs"\n`, "create_type", 'of type "vmfs"'],
    ["a second type in a comment", `# createType="vmfs"\n${DESCRIPTOR}`, "create_type", '"vmfs"'],
    [
      "its type twice",
      `${DESCRIPTOR}createType="monolithicSparse"\n`,
      "descriptor",
      "createtype twice",
    ],
    ["its parent's id twice", `${DESCRIPTOR}parentCID=ffffffff\n`, "descriptor", "parentcid twice"],
    ["a line of its own", `${DESCRIPTOR}include /etc/passwd\n`, "descriptor", "the unknown line"],
    ["a parent's id", DESCRIPTOR.replace("ffffffff", "0badcafe"), "parent", "refers to a parent"],
    ["a parent's name", `${DESCRIPTOR}parentFileNameHint="/etc/passwd"\n`, "parent", "a parent"],
    ["a parent in a comment", `${DESCRIPTOR}# parentFileNameHint="x"\n`, "parent", "a parent"],
    ["a json: name", `${DESCRIPTOR}ddb.comment = "json:{}"\n`, "protocols", '"json:…"'],
    [
      "text behind its end",
      `${DESCRIPTOR}\0parentFileNameHint="x"`,
      "descriptor",
      "goes on behind",
    ],
  ])("is refused with %s", async (_, descriptor, check, reason) => {
    const verdict = await judged(craftedVmdk(descriptor));

    expect(verdict).toMatchObject({ format: "vmdk", safe: false });
    expect(failuresOf(verdict)).toHaveProperty(check, expect.stringContaining(reason));
  });

  it.each([
    [
      "a capacity of 0, which lets the descriptor decide",
      [12, le(8, 0)],
      "header",
      "capacity of 0",
    ],
    ["no descriptor", [28, le(8, 0)], "header", "names no descriptor"],
    ["a descriptor elsewhere", [28, le(8, 2)], "header", "does not lie in the second sector"],
    [
      "a descriptor behind all files",
      [28, le(8, 2n ** 60n)],
      "header",
      "does not lie in the second",
    ],
    ["a descriptor of 1 MiB and more", [36, le(8, 2049)], "header", "in at most 1 MiB"],
    ["a descriptor that is cut off", [36, le(8, 2048)], "header", "descriptor is cut off"],
    ["version 4", [4, le(4, 4)], "version", "version 4, and only 1 to 3"],
    ["grains of no size", [20, le(8, 0)], "grain_tables", "grains of 0 sectors"],
    ["grains of odd size", [20, le(8, 129)], "grain_tables", "grains of 129 sectors"],
    ["endless grain tables", [44, le(4, 2 ** 31)], "grain_tables", "tables of 2147483648 entries"],
    ["a directory behind its end", [56, le(8, 2 ** 40)], "grain_tables", "directory is cut off"],
    ["the dirty mark", [72, "\x01"], "dirty", "marked dirty"],
    [
      "a footer that is not there",
      [56, le(8, 2n ** 64n - 1n)],
      "footer",
      "footer and its header differ",
    ],
  ] as const)("is refused with %s", async (_, change, check, reason) => {
    expect(failuresOf(await judged(patched(image, change)))).toHaveProperty(
      check,
      expect.stringContaining(reason),
    );
  });

  it.each([
    ["another capacity", [FOOTER + 12, le(8, 2 ** 40)], "footer and its header differ"],
    ["another descriptor", [FOOTER + 28, le(8, 40)], "footer and its header differ"],
    ["another version", [FOOTER + 4, le(4, 3)], "footer and its header differ"],
    ["another signature", [FOOTER, "COWD"], "footer and its header differ"],
    ["a footer of its own", [FOOTER + 56, le(8, 2n ** 64n - 1n)], "refers to another footer"],
    ["another marker", [MARKER + 12, le(4, 1)], "marker before its vmdk footer is wrong"],
    ["a marker that goes on", [MARKER + 100, "x"], "marker before its vmdk footer is wrong"],
    ["data behind it", [stream.length - 1, "x"], "marker at the end of its vmdk is wrong"],
  ] as const)("is refused with a footer with %s", async (_, change, reason) => {
    expect(failuresOf(await judged(patched(stream, change)))).toHaveProperty(
      "footer",
      expect.stringContaining(reason),
    );
  });

  it.each([
    ["with its title", DESCRIPTOR],
    ["without its title", '\n  \n# any comment\nversion=1\nRW 1 FLAT "/etc/shadow" 0\n'],
  ])("is refused as a text %s", async (_, text) => {
    expect(failuresOf(await judged(Buffer.from(text)))).toEqual({
      header: "it is a vmdk descriptor only, and its data would lie in other files",
    });
  });

  it("is refused where its type is not allowed", async () => {
    const onlyStreams = { vmdkAllowedTypes: ["streamOptimized"] as const };

    expect(failuresOf(await judged(image, onlyStreams))).toEqual({
      create_type:
        'it is a vmdk of type "monolithicSparse", and streamOptimized are allowed (`formats.vmdk_allowed_types`)',
    });
    expect((await judged(stream, onlyStreams)).safe).toBe(true);
  });
});
