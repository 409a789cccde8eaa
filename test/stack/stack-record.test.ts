import { mkdirSync, rmdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readStackFile, stackFilePath } from "../../src/config/stack-file.ts";
import { StackRecord } from "../../src/stack/stack-record.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

describe("StackRecord", () => {
  it("prints once that it cannot write the file, and writes what it missed later", () => {
    const dataDir = makeTemporaryDirectory();
    const said: string[] = [];
    const addresses = {
      database_url: "postgres://127.0.0.1/image_import",
      temporal_address: "127.0.0.1:7233",
      temporal_namespace: "default",
      web_ui: "http://127.0.0.1:8233",
      api_url: null,
      config: `${dataDir}/image-import.yaml`,
      data_dir: dataDir,
    };
    const record = new StackRecord(addresses, (line) => said.push(line));
    mkdirSync(`${stackFilePath(dataDir)}.new`);

    record.setState("ready");
    record.setProcess("worker", { pid: 7, startTicks: 11 });
    rmdirSync(`${stackFilePath(dataDir)}.new`);
    const before = readStackFile(dataDir)?.state;
    record.catchUp();

    expect(before).toBe("starting");
    expect(readStackFile(dataDir)).toMatchObject({ state: "ready", pids: { worker: 7 } });
    expect(said).toEqual([
      expect.stringContaining(`Cannot write "${stackFilePath(dataDir)}": EISDIR`),
    ]);
  });
});
