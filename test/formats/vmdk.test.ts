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
      "text after its end",
      `${DESCRIPTOR}\0parentFileNameHint="x"`,
      "descriptor",
      "continues after",
    ],
    ["three bytes after its end", `${DESCRIPTOR}\0a=b`, "descriptor", "continues after"],
    [
      "a long rest of another text",
      `${DESCRIPTOR}\0${DESCRIPTOR.slice(-8)}`,
      "descriptor",
      "continues after",
    ],
  ])("is refused with %s", async (_, descriptor, check, reason) => {
    const verdict = await judged(craftedVmdk(descriptor));

    expect(verdict).toMatchObject({ format: "vmdk", safe: false });
    expect(failuresOf(verdict)).toHaveProperty(check, expect.stringContaining(reason));
  });

  it("is accepted with the rest that QEMU leaves behind a shorter content id", async () => {
    const verdict = await judged(craftedVmdk(`${DESCRIPTOR}\0${DESCRIPTOR.slice(-7)}`));

    expect(failuresOf(verdict)).toEqual({});
  });

  it.each([
    [
      "a capacity of 0, which lets the descriptor decide",
      [12, le(8, 0)],
      "header",
      "capacity of 0",
    ],
    ["no descriptor", [28, le(8, 0)], "header", "names no descriptor"],
    ["a descriptor elsewhere", [28, le(8, 2)], "header", "does not begin in the second sector"],
    [
      "a descriptor after all files",
      [28, le(8, 2n ** 60n)],
      "header",
      "does not begin in the second sector",
    ],
    ["a descriptor of 1 MiB and more", [36, le(8, 2049)], "header", "or is larger than 1 MiB"],
    ["a descriptor that is cut off", [36, le(8, 2048)], "header", "descriptor is cut off"],
    ["version 4", [4, le(4, 4)], "version", "version 4; only 1 to 3"],
    ["grains of no size", [20, le(8, 0)], "grain_tables", "grains of 0 sectors"],
    ["grains of odd size", [20, le(8, 129)], "grain_tables", "grains of 129 sectors"],
    ["endless grain tables", [44, le(4, 2 ** 31)], "grain_tables", "tables of 2147483648 entries"],
    [
      "endless grains",
      [12, le(8, 2n ** 62n)],
      "grain_tables",
      "requires 70368744177664 grain tables",
    ],
    ["an unknown compression", [77, le(2, 2)], "grain_tables", "compression of type 2"],
    ["a directory after its end", [56, le(8, 2 ** 40)], "complete", "grain directory ends at byte"],
    [
      "a table after its end",
      [26 * 512, le(4, 255)],
      "complete",
      "grain table ends at byte 132608",
    ],
    ["more overhead than it has", [64, le(8, 257)], "complete", "vmdk table ends at byte 131584"],
    ["the dirty mark", [72, "\x01"], "dirty", "marked dirty"],
    [
      "a footer that is not there",
      [56, le(8, 2n ** 64n - 1n)],
      "footer",
      "there is none before byte 131072",
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
    ["another signature", [FOOTER, "COWD"], "but there is none before byte"],
    ["a footer of its own", [FOOTER + 56, le(8, 2n ** 64n - 1n)], "refers to another footer"],
    ["another marker", [MARKER + 12, le(4, 1)], "marker before its vmdk footer is wrong"],
    ["a marker with more bytes", [MARKER + 100, "x"], "marker before its vmdk footer is wrong"],
    ["data after it", [stream.length - 1, "x"], "marker at the end of its vmdk is wrong"],
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
      header: "it is only a vmdk descriptor; its data is in other files",
    });
  });

  /** A table at sector 27, and a redundant one at sector 31. The grains are at the end. */
  function withGrain(sector: number, ...changes: Parameters<typeof patched>[1][]): Buffer {
    return patched(
      image,
      [8, le(4, 3)],
      [73, "\n \r\n"],
      [26 * 512, le(4, 27)],
      [21 * 512, le(4, 31)],
      [27 * 512, le(4, sector)],
      ...changes,
    );
  }

  it.each([
    ["a grain", withGrain(128)],
    ["a grain of zeros", withGrain(1, [8, le(4, 7)])],
    ["grains that no guest sees", withGrain(128, [27 * 512 + 4 * 200, le(4, 9999)])],
    ["a last grain that ends with the disk", withLastGrain()],
  ])("is accepted with %s", async (_, bytes) => {
    expect(failuresOf(await judged(bytes))).toEqual({});
  });

  /** The disk ends in its only grain: half of it is enough. */
  function withLastGrain(): Buffer {
    const small = craftedVmdk(DESCRIPTOR.replace("20480", "64"));
    return patched(small, [12, le(8, 64)], [26 * 512, le(4, 27)], [27 * 512, le(4, 192)]);
  }

  it.each([
    ["a grain", withGrain(129), "its last vmdk grain ends at byte 131584"],
    [
      "a redundant table",
      withGrain(128, [21 * 512, le(4, 255)]),
      "grain table ends at byte 132608",
    ],
    ["a redundant directory", withGrain(128, [48, le(8, 256)]), "directory ends at byte 131076"],
    [
      "the length of a compressed grain",
      withGrain(255, [77, le(2, 1)], [8, le(4, 0x30003)], [255 * 512 + 8, le(4, 501)]),
      "compressed vmdk grain ends at byte 131073",
    ],
  ])("is refused as cut off when %s ends after the file", async (_, bytes, reason) => {
    const { complete } = failuresOf(await judged(bytes));

    expect(complete).toContain(reason);
    expect(complete).toContain("but the file ends at byte 131072");
  });

  it("is refused when a copy in text mode has changed it", async () => {
    const bytes = withGrain(128, [73, "\n \n\n"]);

    expect(failuresOf(await judged(bytes))).toHaveProperty("line_ends");
  });

  it("is refused when its directory refers to one table again and again", async () => {
    const many = patched(image, [12, le(8, 65536 * 200)]);
    for (let index = 0; index < 200; index += 1) many.writeUInt32LE(200, 26 * 512 + index * 4);

    expect(failuresOf(await judged(many))).toEqual({ header: "its vmdk grain tables overlap" });
  });

  describe("with a descriptor that refers to something else", () => {
    const place = "/vmfs/volumes/other/other.vmdk";

    it.each([
      `changeTrackPath="${place}"`,
      'changeTrackPath="other-ctk.vmdk"',
      `CHANGETRACKPATH\t=\t${place}`,
      `ddb.nativeParentHint = "${place}"`,
      'ddb.nativeParentHint = "other"',
      'ddb.nativeParentCID = "0badcafe"',
      'ddb.iofilters = "vmwarelwd"',
      'ddb.sidecars = "lwd_1.vmfd"',
      `ddb.deviceFile = "${place}"`,
      'digestFilename = "other-digest.vmdk"',
      'ddb.digestFilename="other"',
      'encryptionKeys="vmware:key/list/(pair)"',
      'isNativeSnapshot="yes"',
      'ddb.uuid.parent="4d2f0a6e-0000-0000-0000-000000000001"',
      `ddb.unknown = "${place}"`,
      'ddb.unknown = "..\\\\other"',
      'ddb.unknown = "C:other"',
      "unknown = other-flat.vmdk",
    ])("is refused: %s", async (line) => {
      for (const ended of [`${line}\n`, `${line}\r\n`, `  ${line}  `]) {
        const found = failuresOf(await judged(craftedVmdk(DESCRIPTOR + ended)));

        expect(Object.keys(found)).toContainEqual(
          expect.stringMatching(/^(?:other_files|parent)$/),
        );
      }
    });

    it.each([
      "# changeTrackPath is not used",
      'changeTrackPath=""',
      'ddb.iofilters = ""',
      'isNativeSnapshot="no"',
      'ddb.nativeParentCID = "ffffffff"',
      'ddb.uuid.parent="00000000-0000-0000-0000-000000000000"',
      'ddb.comment = "exported / by hand"',
      'ddb.toolsVersion = "2147483647"',
      'ddb.fcd.name = "a disk"',
      'ddb.longContentID = "8f15b3d0009d9a3f456ff7b28d324d2a"',
      "ddb.geometry.biosHeads = 255",
    ])("is accepted: %s", async (line) => {
      expect(failuresOf(await judged(craftedVmdk(`${DESCRIPTOR}${line}\n`)))).toEqual({});
    });

    it.each([
      ['RW 20480 SPARSE "a"', true],
      ['RDONLY 20480 SPARSE "call-me-stream.vmdk"', true],
      ['RW 20480 SPARSE "a disk of mine.vmdk"', true],
      ['NOACCESS 20480 SPARSE "image.vmdk"', false],
      ['RW 20480 SPARSE ""', false],
      ['RW 20480 SPARSE "other" 0', false],
      ['RW 20480 SPARSE "other"; "image.vmdk"', false],
      ["RW 20480 ZERO", false],
      ['RW 20480 VMFSRDM "other-rdm.vmdk"', false],
      ['RW 20480 VMFS "other-flat.vmdk"', false],
      ['RW 20480 SESPARSE "other.vmdk"', false],
      ['RW 20480 FLAT "/dev/sda" 0', false],
      ['RW 20480 SPARSE "C:other.vmdk"', false],
      ['RW 20480 SPARSE "sub/other.vmdk"', false],
      ['RW 20480 SPARSE " other.vmdk"', false],
      // An image in a store.
      ['RW 20480 SPARSE "0f0e7a6e-6c3f-4c59-9a52-0f6f3c1f8a11.3"', false],
      ['RW 20480 SPARSE "0F0E7A6E-6C3F-4C59-9A52-0F6F3C1F8A11"', false],
    ])("judges an extent %s as acceptable: %s", async (line, isAccepted) => {
      const verdict = await judged(craftedVmdk(DESCRIPTOR.replace(/^RW.*$/m, line)));

      expect(verdict.safe).toBe(isAccepted);
    });
  });

  describe("with a descriptor that QEMU reads further than its header states", () => {
    const TAIL = '\nparentCID=1\nparentFileNameHint="/etc/passwd"\n';

    /**
     * Fills the sectors to the last byte: what follows is the same text for QEMU, which reads
     * twenty.
     */
    function filled(sectors: number, tail: string): Buffer {
      const text = DESCRIPTOR.padEnd(sectors * 512, "#");
      return patched(image, [36, le(8, sectors)], [512, text + tail]);
    }

    it.each([1, 2, 19])("is refused for what follows %i full sectors", async (sectors) => {
      expect(failuresOf(await judged(filled(sectors, TAIL)))).toMatchObject({
        parent: "it is a vmdk overlay that refers to a parent",
        descriptor: `its vmdk descriptor continues after the ${sectors * 512} bytes that its header states`,
      });
    });

    it("is accepted when a NUL and other data follow", async () => {
      expect(failuresOf(await judged(filled(2, `\0${TAIL}`)))).toEqual({});
    });

    it.each([
      ["no parentCID", DESCRIPTOR.replace(/^parentCID.*\n/m, ""), "parentCID"],
      ["a CID that is not a number", DESCRIPTOR.replace("12345678", "what"), "CID"],
    ])("is refused with %s, as QEMU does not open it", async (_, descriptor, missing) => {
      expect(failuresOf(await judged(craftedVmdk(descriptor)))["descriptor"]).toBe(
        `its vmdk descriptor states no ${missing}`,
      );
    });
  });

  it("is refused when its type is not allowed", async () => {
    const onlyStreams = { vmdkAllowedTypes: ["streamOptimized"] as const };

    expect(failuresOf(await judged(image, onlyStreams))).toEqual({
      create_type:
        'it is a vmdk of type "monolithicSparse", which is not allowed (`formats.vmdk_allowed_types`: streamOptimized)',
    });
    expect((await judged(stream, onlyStreams)).safe).toBe(true);
  });
});
