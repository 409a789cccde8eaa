import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { openDataDirectory } from "../../src/stack/data-directory.ts";
import { StackError } from "../../src/stack/stack-error.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

describe("openDataDirectory()", () => {
  it("makes a new directory that only its owner may enter, with a configuration of one file store", () => {
    const dataDir = join(makeTemporaryDirectory(), "data");

    const layout = openDataDirectory(dataDir);

    expect(statSync(dataDir).mode & 0o777).toBe(0o700);
    expect(existsSync(layout.staging)).toBe(true);
    expect(existsSync(layout.localStore)).toBe(true);
    expect(parse(readFileSync(layout.config, "utf8"))).toEqual({
      default_store: "local",
      stores: { local: { type: "file", path: "stores/local" } },
      secrets: { key_file: "secrets.key" },
    });
    const keyFile = join(dataDir, "secrets.key");
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(Buffer.from(readFileSync(keyFile, "utf8"), "base64")).toHaveLength(32);
  });

  it("does not change an existing configuration", () => {
    const dataDir = makeTemporaryDirectory();
    writeFileSync(join(dataDir, "image-import.yaml"), "mine: true\n");

    const { config } = openDataDirectory(dataDir);

    expect(readFileSync(config, "utf8")).toBe("mine: true\n");
  });

  it("reports the reason when the path is a file", () => {
    const path = join(makeTemporaryDirectory(), "file");
    writeFileSync(path, "");

    expect(() => openDataDirectory(path)).toThrow(StackError);
    expect(() => openDataDirectory(path)).toThrow(
      `Cannot use the data directory "${path}": EEXIST`,
    );
  });

  it("keeps the contents of a directory that it opened before", () => {
    const dataDir = makeTemporaryDirectory();
    const { staging } = openDataDirectory(dataDir);
    mkdirSync(join(staging, "kept"));

    openDataDirectory(dataDir);

    expect(existsSync(join(staging, "kept"))).toBe(true);
  });
});
