import { describe, expect, it } from "vitest";
import { findFreePort } from "../../../src/stack/ports.ts";
import { CommandLine } from "../../support/command-line.ts";
import { makeSeparateService } from "../../support/separate-service.ts";
import { SharedStack } from "../../support/shared-stack.ts";

const stack = new SharedStack();
const { commandLine, dataDir } = stack;

describe("migrate", () => {
  it("makes an empty database and a new namespace fit for imports", async () => {
    const service = await makeSeparateService(stack);

    const migrated = await service.commandLine.json("migrate");

    expect(migrated).toEqual({
      exitCode: 0,
      answer: { database: "up to date", search_attributes: "registered" },
      failure: undefined,
    });
    const { answer } = await service.commandLine.json("doctor");
    expect(answer).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ check: "database", ok: true }),
        expect.objectContaining({ check: "search attributes", ok: true }),
      ]),
    );
  });

  it("changes nothing the second time, and reports that to people", async () => {
    expect(await commandLine.run("migrate")).toEqual({
      exitCode: 0,
      stdout: "The search attributes are registered\n",
      stderr: "The database is up to date\n",
    });
  });

  it("reports that the database is unreachable", async () => {
    const DATABASE_URL = `postgres://user@127.0.0.1:${await findFreePort()}/nothing`;
    const away = new CommandLine({ dataDir, env: { DATABASE_URL } });

    expect(await away.json("migrate")).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: { code: "DatabaseUnavailable" },
    });
  });

  it("reports that Temporal is unreachable", async () => {
    const TEMPORAL_ADDRESS = `127.0.0.1:${await findFreePort()}`;
    const away = new CommandLine({ dataDir, env: { TEMPORAL_ADDRESS } });

    expect(await away.json("migrate")).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: { code: "TemporalUnavailable" },
    });
  });
});
