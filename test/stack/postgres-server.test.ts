import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { describe, expect, it, onTestFinished } from "vitest";
import { findFreePort } from "../../src/stack/ports.ts";
import { findPostgresOn, PostgresServer } from "../../src/stack/postgres-server.ts";
import { waitUntilReady, type Program } from "../../src/stack/program.ts";
import { programPath } from "../support/child-program.ts";
import { startShell, startZombie } from "../support/shell-process.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const isRoot = process.getuid?.() === 0;
const NOBODY = 65534;

async function makeServer(directory: string): Promise<PostgresServer> {
  const logFile = join(directory, "..", "postgres.log");
  const server = new PostgresServer({ directory, port: await findFreePort(), logFile });
  await server.prepare();
  return server;
}

async function start(server: PostgresServer): Promise<Program> {
  const program = server.start();
  onTestFinished(async () => program.stop());
  await waitUntilReady(program, async () => server.isReady());
  return program;
}

async function ask(server: PostgresServer, question: string): Promise<unknown[]> {
  const sql = postgres(server.url("postgres"), { max: 1 });
  try {
    return [...(await sql.unsafe(question))];
  } finally {
    await sql.end();
  }
}

describe("PostgresServer", () => {
  it("runs below a directory that only its owner may enter", async () => {
    const directory = join(makeTemporaryDirectory(), "postgres");

    const server = await makeServer(directory);
    await start(server);

    expect(await ask(server, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
    expect(statSync(join(directory, "..")).mode & 0o777).toBe(0o700);
  });

  it("keeps every commit and checks its pages", async () => {
    const server = await makeServer(join(makeTemporaryDirectory(), "postgres"));
    await start(server);

    const settings = await ask(
      server,
      `SELECT name, setting FROM pg_settings
       WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums') ORDER BY name`,
    );

    expect(settings).toEqual([
      { name: "data_checksums", setting: "on" },
      { name: "fsync", setting: "on" },
      { name: "full_page_writes", setting: "on" },
      { name: "synchronous_commit", setting: "on" },
    ]);
  });

  it("refuses a client with a wrong password", async () => {
    const server = await makeServer(join(makeTemporaryDirectory(), "postgres"));
    await start(server);
    const address = new URL(server.url("postgres"));
    address.password = "guess";

    const sql = postgres(address.href, { max: 1 });

    await expect(sql`SELECT 1`).rejects.toThrow("password authentication failed");
    await sql.end();
  });

  it("finds its data again after it was killed and restarted", async () => {
    const directory = join(makeTemporaryDirectory(), "postgres");
    const killed = await makeServer(directory);
    const program = await start(killed);
    await ask(killed, "CREATE TABLE kept AS SELECT 42 AS answer");
    process.kill(program.process?.pid ?? 0, "SIGKILL");
    await program.ended;

    const server = await makeServer(directory);
    await start(server);

    expect(await ask(server, "SELECT answer FROM kept")).toEqual([{ answer: 42 }]);
  });

  it.each(["another program", "a zombie"])(
    "starts again after it was killed when its process id belongs to %s",
    async (owner) => {
      const directory = join(makeTemporaryDirectory(), "postgres");
      const killed = await makeServer(directory);
      const program = await start(killed);
      process.kill(program.process?.pid ?? 0, "SIGKILL");
      await program.ended;
      const pid =
        owner === "a zombie"
          ? await startZombie()
          : (await startShell("echo started; exec sleep 60")).identity.pid;
      const lock = join(directory, "cluster", "postmaster.pid");
      writeFileSync(lock, readFileSync(lock, "utf8").replace(/^\d+/, String(pid)));

      const server = await makeServer(directory);
      await start(server);

      expect(await ask(server, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
    },
  );

  it.runIf(isRoot)("runs for an ordinary user", async () => {
    const home = makeTemporaryDirectory();
    chownSync(home, NOBODY, NOBODY);
    const settings = { directory: join(home, "postgres"), port: await findFreePort() };

    const printed = execFileSync(
      "setpriv",
      [
        ...[`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"],
        // The clone may lie below a directory of root's. That user may only read it.
        ...["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"],
        ...[process.execPath, programPath("start-postgres.mjs"), JSON.stringify(settings)],
      ],
      { encoding: "utf8" },
    );

    expect(printed).toBe(`user ${NOBODY}, exit code 0`);
  });

  it.runIf(isRoot)("runs for root below a directory that belongs to another user", async () => {
    const home = makeTemporaryDirectory();
    const directory = join(home, "postgres");
    mkdirSync(directory);
    chownSync(directory, 12345, 12345);
    chownSync(home, 12345, 12345);
    chmodSync(directory, 0o700);

    const server = await makeServer(directory);
    const program = await start(server);

    expect(await ask(server, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
    expect(statSync(`/proc/${program.process?.pid ?? 0}`).uid).not.toBe(0);
  });
});

describe("PostgresServer.ensureDatabase()", () => {
  it("creates a database once", async () => {
    const server = await makeServer(join(makeTemporaryDirectory(), "postgres"));
    await start(server);

    await server.ensureDatabase("catalogue");
    await server.ensureDatabase("catalogue");

    const found = await ask(
      server,
      "SELECT count(*)::int FROM pg_database WHERE datname = 'catalogue'",
    );
    expect(found).toEqual([{ count: 1 }]);
  });
});

describe("findPostgresOn()", () => {
  it("finds the server that runs on a directory", async () => {
    const directory = join(makeTemporaryDirectory(), "postgres");
    const program = await start(await makeServer(directory));

    expect(findPostgresOn(directory)).toEqual(program.process);
  });

  it("finds none after the server was killed, though its lock file is there", async () => {
    const directory = join(makeTemporaryDirectory(), "postgres");
    const program = await start(await makeServer(directory));
    process.kill(program.process?.pid ?? 0, "SIGKILL");
    await program.ended;

    expect(statSync(join(directory, "cluster", "postmaster.pid")).isFile()).toBe(true);
    expect(findPostgresOn(directory)).toBeUndefined();
  });
});
