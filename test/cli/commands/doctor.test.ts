import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { findFreePort } from "../../../src/stack/ports.ts";
import { CommandLine } from "../../support/command-line.ts";
import { makeSeparateService } from "../../support/separate-service.ts";
import { SharedStack } from "../../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../../support/temporary-directory.ts";

const stack = new SharedStack();
const { commandLine, dataDir } = stack;

interface Finding {
  readonly check: string;
  readonly ok: boolean;
  readonly detail: string;
  readonly code: string | null;
  readonly hint: string | null;
}

/** The findings of the doctor that are wrong. */
function wrongOf(answer: unknown): Finding[] {
  return (answer as Finding[]).filter(({ ok }) => !ok);
}

describe("doctor", () => {
  it("reports as ok everything that imports depend on", async () => {
    const { temporal_address: address, config } = stack.file;

    const result = await commandLine.json("doctor");

    const well = (check: string, detail: unknown) => ({
      check,
      ok: true,
      detail,
      code: null,
      hint: null,
    });
    const matching = (pattern: RegExp): unknown => expect.stringMatching(pattern);
    expect(result).toEqual({
      exitCode: 0,
      answer: [
        well("configuration", config),
        well("database", "answers, up to date"),
        well("temporal", `answers at ${address}, namespace default, keeps runs for 24 h`),
        well("search attributes", "registered"),
        well("reconciler", "scheduled"),
        well("worker", matching(/^1 running: \d+@\S+ \(ready, polled .* ago\)$/)),
        well("staging", matching(/^\/.*\/staging, volume [0-9a-f]{12}, .* free$/)),
        well("store local", matching(/^works, .* free$/)),
        well("store slow", matching(/^works, .* free$/)),
        well("store tiny", matching(/^works, .* free$/)),
        well("api", `${stack.file.api_url ?? ""}, ready`),
      ],
      failure: undefined,
    });
  });

  it("reports a database that is read-only", async () => {
    const url = `${stack.file.database_url}?default_transaction_read_only=on`;
    const standby = new CommandLine({ dataDir, env: { DATABASE_URL: url } });

    const { answer, exitCode } = await standby.json("doctor");

    expect(exitCode).toBe(1);
    expect(wrongOf(answer)).toMatchObject([
      {
        check: "database",
        code: "DatabaseUnavailable",
        detail: "It is read-only, as a standby is",
        hint: expect.stringContaining("primary") as string,
      },
    ]);
  });

  it("shows people a table", async () => {
    const { exitCode, stdout, stderr } = await commandLine.run("doctor");

    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(
      /^CHECK +STATE +DETAIL\nconfiguration +ok +\/.*\ndatabase +ok +answers, up to date\n/,
    );
  });

  it("reports each thing that is wrong with its code and hint, and checks the others", async () => {
    const port = await findFreePort();
    const away = new CommandLine({
      dataDir,
      env: {
        DATABASE_URL: `postgres://user@127.0.0.1:${port}/nothing`,
        TEMPORAL_ADDRESS: `127.0.0.1:${port}`,
      },
    });
    const directory = makeTemporaryDirectory();
    const config = join(directory, "image-import.yaml");
    writeFileSync(config, "stores: { archive: { type: file, path: archive } }");
    mkdirSync(join(directory, "staging"));
    // Only the catalogue knows whether a volume without an id is a new one.
    writeFileSync(join(directory, "staging", ".image-import-node"), "0123456789ab\n");

    const result = await away.json("doctor", "--config", config);

    expect(result.exitCode).toBe(1);
    expect((result.answer as Finding[]).map(({ check, ok }) => [check, ok])).toEqual([
      ["configuration", true],
      ["database", false],
      ["temporal", false],
      ["staging", true],
      ["store archive", false],
      ["api", true],
    ]);
    expect(wrongOf(result.answer)).toMatchObject([
      {
        detail: `Postgres: connect ECONNREFUSED 127.0.0.1:${port}`,
        code: "DatabaseUnavailable",
        hint: "Start Postgres, or correct DATABASE_URL.",
      },
      {
        detail: expect.stringMatching(
          `^127.0.0.1:${port}: The Temporal server does not answer: `,
        ) as unknown,
        code: "TemporalUnavailable",
        hint: "Start the Temporal server, or correct TEMPORAL_ADDRESS.",
      },
      {
        detail: expect.stringMatching(/its directory "\/\S+\/archive" does not exist$/) as unknown,
        code: "StoreUnavailable",
        hint: "Check the path of the store and the rights of this user.",
      },
    ]);
    expect(result.failure).toEqual({
      code: "DatabaseUnavailable",
      message: `Checks failed: ${wrongOf(result.answer)
        .map(({ check, detail }) => `${check}: ${detail}`)
        .join("; ")}`,
      hint: "Start Postgres, or correct DATABASE_URL. Start the Temporal server, or correct TEMPORAL_ADDRESS. Check the path of the store and the rights of this user.",
    });
  });

  it("shows people in the table what is wrong", async () => {
    const config = join(makeTemporaryDirectory(), "nothing.yaml");

    const { exitCode, stdout, stderr } = await commandLine.run("doctor", "--config", config);

    expect(exitCode).toBe(2);
    expect(stdout).toContain(
      `\nconfiguration      WRONG  Cannot read the configuration "${config}"`,
    );
    expect(stderr).toMatch(/^error: Checks failed: configuration: .*\nhint: .*\n$/);
  });

  it("does not check a disabled store, and checks that a read-only one is readable", async () => {
    const directory = makeTemporaryDirectory();
    const config = join(directory, "image-import.yaml");
    const stores = {
      fast: { type: "file", path: "fast" },
      archive: { type: "file", path: "archive", read_only: true },
      away: { type: "file", path: "away", disabled: true },
    };
    writeFileSync(config, JSON.stringify({ stores }));
    for (const name of ["staging", "fast", "archive"]) mkdirSync(join(directory, name));

    const { answer } = await commandLine.json("doctor", "--config", config);

    const findings = answer as Finding[];
    // The worker runs with the configuration of its stack.
    expect(wrongOf(findings)).toMatchObject([
      {
        check: "worker",
        code: "BadConfiguration",
        detail: expect.stringContaining("runs with another configuration") as string,
        hint: expect.stringContaining("SIGHUP") as string,
      },
    ]);
    const ofStores = findings.filter(({ check }) => check.startsWith("store "));
    expect(ofStores.map(({ check, ok }) => [check, ok])).toEqual([
      ["store fast", true],
      ["store archive", true],
    ]);
  });

  it("checks the keys that seal URLs", async () => {
    const directory = makeTemporaryDirectory();
    const config = join(directory, "image-import.yaml");
    writeFileSync(config, "stores: { fast: {type: file, path: fast} }\nsecrets: {key_file: keys}");
    const keyFile = join(directory, "keys");
    const keysOf = (answer: unknown) => (answer as Finding[]).find(({ check }) => check === "keys");

    const { answer: missing } = await commandLine.json("doctor", "--config", config);
    writeFileSync(keyFile, `${randomBytes(32).toString("base64")}\n`, { mode: 0o600 });
    const { answer: present } = await commandLine.json("doctor", "--config", config);

    expect(keysOf(missing)).toMatchObject({
      ok: false,
      code: "BadConfiguration",
      detail: `Cannot use the key file "${keyFile}": it cannot be read`,
    });
    expect(keysOf(present)).toMatchObject({ ok: true, detail: keyFile });
  });

  it("reports once that there is no configuration file", async () => {
    const config = join(makeTemporaryDirectory(), "nothing.yaml");

    const { exitCode, answer } = await commandLine.json("doctor", "--config", config);

    expect(exitCode).toBe(2);
    expect(wrongOf(answer)).toMatchObject([{ check: "configuration", code: "BadConfiguration" }]);
  });

  it("asks for `migrate` and for a worker where neither ran", async () => {
    const service = await makeSeparateService(stack);

    const { exitCode, answer } = await service.commandLine.json("doctor");

    expect(exitCode).toBe(2);
    expect(wrongOf(answer)).toEqual([
      {
        check: "database",
        ok: false,
        detail: expect.stringMatching(/^It lacks \d+ migrations?$/) as unknown,
        code: "BadConfiguration",
        hint: "`image-import migrate` brings it up to date.",
      },
      {
        check: "search attributes",
        ok: false,
        detail:
          "Not registered: ImageId, ImageName, ImportPhase, ImportStores, ImportMethod, Owner",
        code: "BadConfiguration",
        hint: "`image-import migrate` registers them, and a running worker does so within a minute.",
      },
      {
        check: "reconciler",
        ok: false,
        detail: "Temporal has no Schedule for it",
        code: "BadConfiguration",
        hint: "`image-import worker` creates it at its start, and a running worker does so within a minute.",
      },
      {
        check: "worker",
        ok: false,
        detail: 'No worker polls the task queue "image-import"',
        code: "NotConfigured",
        hint: "Start one with `image-import worker`; accepted imports wait for it.",
      },
    ]);
  });
});
