import { execFile } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { choosePorts, findFreePort } from "../../src/stack/ports.ts";
import { StackError } from "../../src/stack/stack-error.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const execFileOf = promisify(execFile);
const BUILT_PORTS = fileURLToPath(new URL("../../dist/stack/ports.js", import.meta.url));
const CHOOSE =
  "import(process.argv[1]).then((it) => it.choosePorts(process.argv[2])).then((ports) => console.log(JSON.stringify(ports)))";

async function listenOn(port: number): Promise<void> {
  const server = createServer().listen({ port, host: "127.0.0.1" });
  await once(server, "listening");
  onTestFinished(() => void server.close());
}

describe("choosePorts()", () => {
  it("chooses four different ports", async () => {
    const ports = await choosePorts(join(makeTemporaryDirectory(), "ports.json"));

    expect(new Set(Object.values(ports)).size).toBe(4);
  });

  it("keeps the ports from start to start", async () => {
    const path = join(makeTemporaryDirectory(), "ports.json");
    const first = await choosePorts(path);

    expect(await choosePorts(path)).toEqual(first);
  });

  it.each([
    ["is not JSON", "{", "JSON"],
    ["is empty, as after a power failure", "", "JSON"],
    ["has other content", '{"postgres": "one"}', "postgres"],
  ])("names a file that %s, and the way out", async (_, text, reason) => {
    const path = join(makeTemporaryDirectory(), "ports.json");
    writeFileSync(path, text);

    const chosen = choosePorts(path);

    await expect(chosen).rejects.toThrow(StackError);
    await expect(chosen).rejects.toThrow(`Cannot read the ports in "${path}": `);
    await expect(chosen).rejects.toThrow(reason);
    await expect(chosen).rejects.toThrow("Delete the file");
  });

  it("chooses another port only for the one that another program took", async () => {
    const path = join(makeTemporaryDirectory(), "ports.json");
    const first = await choosePorts(path);
    await listenOn(first.temporal);

    const second = await choosePorts(path);

    expect(second).toEqual({ ...first, temporal: second.temporal });
    expect(second.temporal).not.toBe(first.temporal);
  });
});

describe("findFreePort()", () => {
  it("never finds a port twice", async () => {
    const ports = new Set<number>();
    // By the birthday paradox a tenth of as many would be enough to find one twice by chance.
    for (let index = 0; index < 2_000; index += 1) ports.add(await findFreePort());

    expect(ports.size).toBe(2_000);
  });

  it("does not choose a port that another process has found, until that process ends", async () => {
    const port = await findFreePort();
    const path = join(makeTemporaryDirectory(), "ports.json");
    const kept = { postgres: port, temporal: port, web_ui: port };
    writeFileSync(path, JSON.stringify(kept));

    const { stdout } = await execFileOf(process.execPath, ["-e", CHOOSE, BUILT_PORTS, path]);
    const chosen = JSON.parse(stdout) as typeof kept;

    expect(Object.values(chosen)).not.toContain(port);
    expect(await choosePorts(path)).toEqual(chosen);
  });
});
