import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { digestsOf } from "../support/file-digests.ts";
import { runExample } from "../support/run-example.ts";
import { SharedStack, writeDisk } from "../support/shared-stack.ts";

const EXAMPLE = "import-a-file.mjs";

const stack = new SharedStack();

describe("examples/import-a-file.mjs", () => {
  it("imports a file, and reports its progress and where its bytes are", async () => {
    const file = writeDisk();

    const { exitCode, stdout, stderr } = await runExample(EXAMPLE, await stack.environment(), file);

    const [, imageId = ""] = /^([0-9a-f-]{36}): /.exec(stdout) ?? [];
    const { size, os_hash_value: sha512 } = await digestsOf(file);
    const url = pathToFileURL(join(stack.store("local"), `${imageId}.1`)).href;
    expect({ exitCode, stdout }).toEqual({
      exitCode: 0,
      stdout: `${imageId}: ${size} bytes, sha512 ${sha512}\nlocal: ${url}\n`,
    });
    expect(stderr).toMatch(/^done, local stored\n$/m);
    expect(await stack.showImage(imageId)).toMatchObject({ name: "disk.raw", status: "active" });
  });

  it("reports the failure and the way out", async () => {
    const result = await runExample(EXAMPLE, await stack.environment(), "nothing.raw");

    expect(result).toEqual({
      exitCode: 1,
      stdout: "",
      stderr: 'FileNotFound: There is no file "nothing.raw"\nCheck the path.\n',
    });
  });

  it("asks for what it needs", async () => {
    const result = await runExample(EXAMPLE, {});

    expect(result).toEqual({
      exitCode: 2,
      stdout: "",
      stderr: "Name a file, and set the variables that `image-import env` prints.\n",
    });
  });
});
