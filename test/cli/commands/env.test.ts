import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CommandLine } from "../../support/command-line.ts";
import { SharedStack } from "../../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../../support/temporary-directory.ts";

const stack = new SharedStack();

describe("env", () => {
  it("prints the addresses of the stack, as one document and for a shell", async () => {
    const { temporal_address, temporal_namespace, database_url, config } = stack.file;
    const addresses = {
      TEMPORAL_ADDRESS: temporal_address,
      TEMPORAL_NAMESPACE: temporal_namespace,
      DATABASE_URL: database_url,
      IMAGE_IMPORT_CONFIG: config,
    };

    const document = await stack.commandLine.json("env");
    const { stdout } = await stack.commandLine.run("env");

    expect(document).toEqual({ exitCode: 0, answer: addresses, failure: undefined });
    const lines = Object.entries(addresses).map(([name, value]) => `export ${name}='${value}'\n`);
    expect(stdout).toBe(lines.join(""));
  });

  it("quotes a value for the shell", async () => {
    const config = join(makeTemporaryDirectory(), `it's $HOME "x".yaml`);
    const { stdout } = await stack.commandLine.run("env", "--config", config);

    const script = `eval "$1"; printf %s "$IMAGE_IMPORT_CONFIG"`;
    expect(execFileSync("sh", ["-c", script, "sh", stdout], { encoding: "utf8" })).toBe(config);
  });

  it("fails where no stack runs and nothing names a Temporal server", async () => {
    const { exitCode, stdout, stderr } = await new CommandLine({
      dataDir: makeTemporaryDirectory(),
    }).run("env");

    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toContain("TEMPORAL_ADDRESS is not set");
  });
});
