import { chmodSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  readStackFile,
  removeStackFile,
  stackFilePath,
  writeStackFile,
  type StackFile,
} from "../../src/config/stack-file.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

function aStackFile(dataDir: string): StackFile {
  return {
    state: "ready",
    boot_id: "7b1a4c5e-0000-4000-8000-000000000000",
    supervisor: { pid: 10, start_time: 100 },
    pids: { postgres: 11, temporal: 12, worker: null, api: 14 },
    start_times: { postgres: 101, temporal: 102, worker: null, api: 14 },
    database_url: "postgresql://image_import:secret@127.0.0.1:20001/image_import",
    temporal_address: "127.0.0.1:20002",
    temporal_namespace: "default",
    api_url: "http://127.0.0.1:20004",
    web_ui: "http://127.0.0.1:20003",
    health_url: "http://127.0.0.1:20004",
    metrics_url: "http://127.0.0.1:20005/metrics",
    config: join(dataDir, "image-import.yaml"),
    data_dir: dataDir,
  };
}

describe("readStackFile()", () => {
  it("returns what was written last", () => {
    const dataDir = makeTemporaryDirectory();
    const file = aStackFile(dataDir);

    writeStackFile({ ...file, state: "starting" });
    writeStackFile(file);

    expect(readStackFile(dataDir)).toEqual(file);
  });

  it("returns undefined when no stack has written one", () => {
    expect(readStackFile(makeTemporaryDirectory())).toBeUndefined();
  });

  it("returns undefined after the file was removed", () => {
    const dataDir = makeTemporaryDirectory();
    writeStackFile(aStackFile(dataDir));

    removeStackFile(dataDir);

    expect(readStackFile(dataDir)).toBeUndefined();
  });

  it("names file and field when a field is wrong", () => {
    const dataDir = makeTemporaryDirectory();
    const wrong = { ...aStackFile(dataDir), pids: { postgres: "11", temporal: 12, worker: 13 } };
    writeFileSync(stackFilePath(dataDir), JSON.stringify(wrong));

    expect(() => readStackFile(dataDir)).toThrow(`Cannot read "${dataDir}/stack.json"`);
    expect(() => readStackFile(dataDir)).toThrow("pids.postgres");
  });

  it("names the file when it is not JSON", () => {
    const dataDir = makeTemporaryDirectory();
    writeFileSync(stackFilePath(dataDir), "{");

    expect(() => readStackFile(dataDir)).toThrow(`Cannot read "${dataDir}/stack.json"`);
  });
});

describe("writeStackFile()", () => {
  it("lets only the owner read the file, which holds a password", () => {
    const dataDir = makeTemporaryDirectory();
    writeFileSync(stackFilePath(dataDir), "");
    chmodSync(stackFilePath(dataDir), 0o644);

    writeStackFile(aStackFile(dataDir));

    expect(statSync(stackFilePath(dataDir)).mode & 0o777).toBe(0o600);
  });

  it("leaves no other file behind", () => {
    const dataDir = makeTemporaryDirectory();

    writeStackFile(aStackFile(dataDir));

    expect(readdirSync(dataDir)).toEqual(["stack.json"]);
  });
});
