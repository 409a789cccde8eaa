import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { inSession, Session } from "../../src/cli/session.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { failureOf } from "../support/failure-of.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

let dataDir: string;
beforeEach(() => {
  dataDir = makeTemporaryDirectory();
  vi.stubEnv("TEMPORAL_CONFIG_FILE", join(dataDir, "no-temporal.toml"));
  for (const name of ["TEMPORAL_ADDRESS", "DATABASE_URL", "IMAGE_IMPORT_CONFIG"]) {
    vi.stubEnv(name, undefined);
  }
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

/** Captures stdout. The function that it returns reads the captured text. */
function stdout(): () => string {
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  return () => write.mock.calls.map(([text]) => String(text)).join("");
}

/** Runs a command line of one command `do <thing> [--fast]` whose action does this work. */
async function run(
  work: (session: Session, ...args: readonly unknown[]) => Promise<void>,
  ...args: readonly string[]
): Promise<void> {
  const program = new Command().option("--json").option("--data-dir <dir>");
  program.command("do <thing>").option("--fast").action(inSession(work));
  await program.parseAsync(["do", "it", "--data-dir", dataDir, ...args], { from: "user" });
}

describe("Session", () => {
  it("prints text for people", () => {
    const written = stdout();

    new Session({ dataDir }).answer({ id: 1 }, () => "id  1\n");

    expect(written()).toBe("id  1\n");
  });

  it("prints one document for programs", () => {
    const written = stdout();

    new Session({ dataDir, json: true }).answer({ id: 1 }, () => "id  1\n");

    expect(written()).toBe('{\n  "id": 1\n}\n');
  });

  it("has no configuration when no setting names one", async () => {
    expect(await new Session({ dataDir }).config()).toBeUndefined();
  });

  it("reads the configuration that was named", async () => {
    const config = join(dataDir, "image-import.yaml");
    writeFileSync(config, "stores: { fast: { type: file, path: fast } }");

    const session = new Session({ dataDir, config });

    expect((await session.config())?.stores).toEqual({
      fast: {
        type: "file",
        path: join(dataDir, "fast"),
        zeroCopy: true,
        mode: 0o440,
        owner: undefined,
        bandwidthLimit: undefined,
        readOnly: false,
        disabled: false,
      },
    });
    expect(await session.requiredConfig()).toBe(await session.config());
  });

  it("rejects work that needs a configuration when no setting names one", async () => {
    const session = new Session({ dataDir });

    const failure = await failureOf(session.requiredConfig());

    expect(failure).toMatchObject({
      code: "NotConfigured",
      message:
        "Cannot find the configuration file with staging area and stores: no stack is running here, and IMAGE_IMPORT_CONFIG is not set",
    });
  });

  it("rejects work that needs the catalogue when no setting names one", async () => {
    const session = new Session({ dataDir });

    const failure = await failureOf(session.requiredDatabaseUrl());

    expect(failure).toMatchObject({
      code: "NotConfigured",
      message: "Cannot find the catalogue: no stack is running here, and DATABASE_URL is not set",
    });
  });

  it("needs no valid configuration file for a client that only steers", async () => {
    const config = join(dataDir, "broken.yaml");
    writeFileSync(config, "stores: 7");
    const session = new Session({ dataDir, config });

    await session.client();
    const failure = await failureOf(new Session({ dataDir, config }).hostClient());

    expect(failure.code).toBe("BadConfiguration");
    await session.close();
  });
});

describe("inSession()", () => {
  it("passes the arguments of the command and the settings of all commands to the work", async () => {
    const seen: unknown[] = [];

    await run(
      async (session, ...args) => {
        seen.push(session.isJson, (await session.location()).dataDir, ...args);
      },
      "--json",
      "--fast",
    );

    expect(seen).toEqual([true, dataDir, "it", { fast: true }]);
  });

  it("ends the session also after a failure", async () => {
    const close = vi.spyOn(Session.prototype, "close");
    const failing = run(async () => {
      throw new ImportError("ImageBusy", "It is imported");
    });

    const failure = await failureOf(failing);

    expect(failure.code).toBe("ImageBusy");
    expect(close).toHaveBeenCalledOnce();
  });

  it("reports that Temporal's usual address was tried when no setting names another", async () => {
    const failing = run(async () => {
      throw new ImportError("TemporalUnavailable", "It does not answer");
    });

    const { code, message, hint } = await failureOf(failing);

    expect({ code, message, hint }).toEqual({
      code: "TemporalUnavailable",
      message: "It does not answer",
      hint: "No Temporal server is configured, so localhost:7233 was tried. Start a stack with `image-import dev`, or set TEMPORAL_ADDRESS.",
    });
  });

  it("keeps the hint of the failure when a setting names the server", async () => {
    vi.stubEnv("TEMPORAL_ADDRESS", "127.0.0.1:1");
    const failing = run(async () => {
      throw new ImportError("TemporalUnavailable", "It does not answer");
    });

    const { hint } = await failureOf(failing);

    expect(hint).toBe("Check the Temporal server; `image-import doctor` helps.");
  });
});
