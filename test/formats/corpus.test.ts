import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { DEFAULT_FORMAT_POLICY } from "../../src/domain/format-policy.ts";
import { judgeImage, type Verdict } from "../../src/formats/judge-image.ts";
import { CORPUS, prepareCorpus, type Corpus } from "../support/corpus.ts";
import { runTool } from "../support/image-tools.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

let corpus: Corpus;
beforeEach(async () => {
  corpus = await prepareCorpus(makeTemporaryDirectory());
});

async function verdictOn(path: string): Promise<Verdict> {
  await using handle = await open(path);
  return await judgeImage(handle, (await stat(path)).size, DEFAULT_FORMAT_POLICY);
}

describe("judgeImage() of images that real programs made", () => {
  it.each(CORPUS)(
    "judges $name",
    async ({ name, make, format, virtualSizeBytes, fails = [], tolerates = [] }) => {
      const path = join(corpus.directory, name.replaceAll(" ", "-"));
      await make(path, corpus);

      const verdict = await verdictOn(path);

      const { format: found, tolerated, hints } = verdict;
      expect({ format: found, fails: Object.keys(hints), tolerated }).toEqual({
        format,
        fails,
        tolerated: tolerates,
      });
      expect(verdict.safe).toBe(fails.length === 0);
      // Both ends, some headers, and the tables. A qcow2 with clusters of 2 MiB has two tables of a
      // cluster each.
      expect(verdict.bytesRead).toBeLessThan(/2 MiB/.test(name) ? 5 * 1024 ** 2 : 1024 ** 2);
      if (virtualSizeBytes !== undefined) expect(verdict.virtualSizeBytes).toBe(virtualSizeBytes);
    },
  );

  it.each([
    ["vpc", "vhd", "subformat=dynamic"],
    ["vpc", "vhd", "subformat=fixed"],
    ["vhdx", "vhdx", "subformat=dynamic"],
    ["vmdk", "vmdk", "subformat=streamOptimized"],
  ])("finds the same virtual size as qemu-img, of %s as %s with %s", async (qemu, format, how) => {
    const path = join(corpus.directory, `sized-${qemu}-${how}`);
    await runTool("qemu-img", [
      "convert",
      "-f",
      "raw",
      "-O",
      qemu,
      "-o",
      how,
      corpus.diskPath,
      path,
    ]);
    const stdout = await runTool("qemu-img", ["info", "-f", qemu, "--output=json", path]);
    const info = JSON.parse(stdout) as { readonly "virtual-size": number };

    expect(await verdictOn(path)).toMatchObject({
      format,
      virtualSizeBytes: info["virtual-size"],
    });
  });
});
