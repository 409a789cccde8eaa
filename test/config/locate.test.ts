import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { defaultOwner, showsStackTraces } from "../../src/config/environment.ts";
import { locateService, type ServiceLocation } from "../../src/config/locate.ts";
import { stackFilePath, writeStackFile, type StackFile } from "../../src/config/stack-file.ts";
import { failureOf } from "../support/failure-of.ts";
import { asUnprivileged } from "../support/unprivileged.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

// No proxy is used for a server on this machine.
const DIRECT = { channelArgs: { "grpc.enable_http_proxy": 0 } } as const;

let dataDir: string;
beforeEach(() => {
  dataDir = makeTemporaryDirectory();
  vi.stubEnv("TEMPORAL_CONFIG_FILE", join(dataDir, "no-temporal.toml"));
  for (const name of ["ADDRESS", "NAMESPACE", "API_KEY", "PROFILE"]) {
    vi.stubEnv(`TEMPORAL_${name}`, undefined);
  }
});
afterEach(() => {
  vi.unstubAllEnvs();
});

/** Writes the file of a stack that runs, or ran, on the data directory. */
function leaveStackFile(): StackFile {
  const stack: StackFile = {
    state: "ready",
    boot_id: "7b1a4c5e-0000-4000-8000-000000000000",
    supervisor: { pid: 10, start_time: 100 },
    pids: { postgres: 11, temporal: 12, worker: 13, api: 14 },
    start_times: { postgres: 101, temporal: 102, worker: 103, api: 104 },
    database_url: "postgres://stack",
    temporal_address: "127.0.0.1:20002",
    temporal_namespace: "stack",
    api_url: "http://127.0.0.1:20004",
    web_ui: "http://127.0.0.1:20003",
    health_url: "http://127.0.0.1:20004",
    metrics_url: "http://127.0.0.1:20005/metrics",
    config: join(dataDir, "image-import.yaml"),
    data_dir: dataDir,
  };
  writeStackFile(stack);
  return stack;
}

describe("locateService()", () => {
  it("finds nothing where no stack runs and nothing is set", () => {
    expect(locateService({ dataDir }, {})).toEqual({
      dataDir,
      stack: undefined,
      databaseUrl: undefined,
      temporal: { namespace: "default", connection: DIRECT },
      isTemporalNamed: false,
      webUi: undefined,
      configPath: undefined,
    } satisfies ServiceLocation);
  });

  it("names the owner of a data directory that it may not read, without a hint to delete a file", async () => {
    leaveStackFile();
    if (process.geteuid?.() !== 0) chmodSync(stackFilePath(dataDir), 0);

    const failure = await failureOf(asUnprivileged(async () => locateService({ dataDir }, {})));

    expect(failure).toMatchObject({
      code: "BadConfiguration",
      message: expect.stringMatching(
        /^Cannot read ".*stack\.json": the data directory belongs to user /,
      ) as string,
      hint: expect.stringContaining("--data-dir") as string,
    });
    expect(failure.hint).not.toContain("delete");
  });

  it("uses everything from the stack on the data directory", () => {
    const stack = leaveStackFile();

    expect(locateService({ dataDir }, {})).toEqual({
      dataDir,
      stack,
      databaseUrl: "postgres://stack",
      temporal: { namespace: "stack", connection: { address: "127.0.0.1:20002", ...DIRECT } },
      isTemporalNamed: true,
      webUi: stack.web_ui,
      configPath: join(dataDir, "image-import.yaml"),
    } satisfies ServiceLocation);
  });

  it("prefers each thing that is configured explicitly", () => {
    const stack = leaveStackFile();
    vi.stubEnv("TEMPORAL_ADDRESS", "cluster:7233");
    const env = { DATABASE_URL: "postgres://other", IMAGE_IMPORT_CONFIG: "/etc/other.yaml" };

    expect(locateService({ dataDir }, env)).toEqual({
      dataDir,
      stack,
      databaseUrl: "postgres://other",
      temporal: { namespace: "stack", connection: { address: "cluster:7233" } },
      isTemporalNamed: true,
      // That of the stack shows the runs of another server.
      webUi: undefined,
      configPath: "/etc/other.yaml",
    } satisfies ServiceLocation);
  });

  it("takes the Web UI that is named", () => {
    leaveStackFile();
    const env = { IMAGE_IMPORT_WEB_UI: "https://temporal.example.org" };

    expect(locateService({ dataDir }, env).webUi).toBe("https://temporal.example.org");
  });

  it("prefers the command line to the environment", () => {
    const other = makeTemporaryDirectory();
    const env = { IMAGE_IMPORT_DATA_DIR: other, IMAGE_IMPORT_CONFIG: "/etc/other.yaml" };

    const location = locateService({ dataDir, config: "mine.yaml" }, env);

    expect(location).toMatchObject({ dataDir, configPath: "mine.yaml" });
  });

  it("looks in IMAGE_IMPORT_DATA_DIR when no data directory is named", () => {
    const stack = leaveStackFile();

    expect(locateService({}, { IMAGE_IMPORT_DATA_DIR: dataDir })).toMatchObject({ dataDir, stack });
  });

  it("looks in .image-import of a clone when nothing names a data directory", () => {
    const expected = fileURLToPath(new URL("../../.image-import", import.meta.url));

    expect(locateService({}, {}).dataDir).toBe(expected);
  });

  it("treats an empty variable as not set", () => {
    leaveStackFile();
    vi.stubEnv("TEMPORAL_ADDRESS", "");
    const env = { IMAGE_IMPORT_DATA_DIR: dataDir, DATABASE_URL: "", IMAGE_IMPORT_CONFIG: "" };

    expect(locateService({}, env)).toMatchObject({
      databaseUrl: "postgres://stack",
      temporal: { connection: { address: "127.0.0.1:20002", ...DIRECT } },
      configPath: join(dataDir, "image-import.yaml"),
    });
  });

  it("reports Temporal as named when only the environment names it", () => {
    vi.stubEnv("TEMPORAL_ADDRESS", "cluster:7233");

    expect(locateService({ dataDir }, {})).toMatchObject({
      temporal: { namespace: "default", connection: { address: "cluster:7233" } },
      isTemporalNamed: true,
    });
  });

  it("names the file and a way out when a stack file cannot be read", () => {
    const path = stackFilePath(dataDir);
    writeFileSync(path, "{");

    expect(() => locateService({ dataDir }, {})).toThrow(
      expect.objectContaining({
        code: "BadConfiguration",
        message: expect.stringContaining(`Cannot read "${path}"`) as string,
        hint: `Stop the stack that wrote "${path}", delete the file, or name another --data-dir.`,
      }),
    );
  });

  it("reports that Temporal's configuration cannot be read", () => {
    const path = join(dataDir, "temporal.toml");
    writeFileSync(path, "[profile");
    vi.stubEnv("TEMPORAL_CONFIG_FILE", path);

    expect(() => locateService({ dataDir }, {})).toThrow(
      expect.objectContaining({
        code: "BadConfiguration",
        message: expect.stringMatching(/^Cannot read Temporal's configuration: ./) as string,
        hint: "Correct the TEMPORAL_* variables, or the file that TEMPORAL_CONFIG_FILE names.",
      }),
    );
  });
});

describe("defaultOwner()", () => {
  it.each([
    ["IMAGE_IMPORT_OWNER", { IMAGE_IMPORT_OWNER: "ada" }, "ada"],
    ["undefined when it is empty", { IMAGE_IMPORT_OWNER: "" }, undefined],
    ["undefined when it is not set", {}, undefined],
  ])("is %s", (_, env, owner) => {
    expect(defaultOwner(env)).toBe(owner);
  });
});

describe("showsStackTraces()", () => {
  it.each([
    ["when IMAGE_IMPORT_DEBUG is set", { IMAGE_IMPORT_DEBUG: "1" }, true],
    ["not when it is empty", { IMAGE_IMPORT_DEBUG: "" }, false],
    ["not when it is not set", {}, false],
  ])("does %s", (_, env, expected) => {
    expect(showsStackTraces(env)).toBe(expected);
  });
});
