import { randomUUID } from "node:crypto";
import { chownSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import type { ImageView } from "../../src/client/image-view.ts";
import type { StackFile } from "../../src/config/stack-file.ts";
import { writeRandomFile } from "../support/disk-images.ts";
import { digestsOf } from "../support/file-digests.ts";
import { MIB } from "../support/mib.ts";
import {
  RunningStack,
  useRunningStack,
  type RunningStackOptions,
} from "../support/running-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const isRoot = process.getuid?.() === 0;
const NOBODY = 65534;
const skipReason = isRoot ? "" : " (skipped: only root can become another user)";

// The clone may lie below a directory of root's. That user may only read it.
const AS_NOBODY = [
  ...["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"],
  ...["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"],
];

/** Starts a stack on a new data directory for the running test. */
async function startStack(options: RunningStackOptions = {}): Promise<RunningStack> {
  const stack = new RunningStack(options);
  onTestFinished(() => stack.stop());
  await stack.start();
  return stack;
}

async function writeDisk(): Promise<string> {
  const path = join(makeTemporaryDirectory(), "disk.raw");
  await writeRandomFile(path, 4 * MIB);
  return path;
}

async function listImageIds({ commandLine }: RunningStack): Promise<string[]> {
  return ((await commandLine.answer("image", "list")) as ImageView[]).map(({ id }) => id);
}

function portsOf({ database_url, temporal_address, web_ui }: StackFile): string[] {
  return [database_url, `tcp://${temporal_address}`, web_ui].map((url) => new URL(url).port);
}

function userOf(pid: number): number {
  return Number(/^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

describe("two stacks side by side", () => {
  const one = useRunningStack();
  const other = useRunningStack();

  it("import into their own stores, and know nothing of each other", async () => {
    const [oneId, otherId] = [randomUUID(), randomUUID()];
    const path = await writeDisk();

    const results = await Promise.all([
      one.commandLine.json("import", path, "--id", oneId),
      other.commandLine.json("import", path, "--id", otherId),
    ]);

    expect(results).toMatchObject([{ exitCode: 0 }, { exitCode: 0 }]);
    expect(await listImageIds(one)).toEqual([oneId]);
    expect(await listImageIds(other)).toEqual([otherId]);
    expect(await other.commandLine.json("status", oneId)).toMatchObject({ exitCode: 3 });
    expect(new Set([...portsOf(one.file), ...portsOf(other.file)]).size).toBe(6);
  });

  it("leave each other alone when one of them ends", async () => {
    const { pids } = other.file;
    const path = await writeDisk();

    await one.stop();
    const { exitCode } = await other.commandLine.json("import", path);

    expect(exitCode).toBe(0);
    expect(other.file.pids).toEqual(pids);
  });
});

describe("a stack whose data directory lies below one that only its owner may enter", () => {
  it("imports", async () => {
    const closed = makeTemporaryDirectory();
    mkdirSync(join(closed, "below"));
    const stack = await startStack({ dataDir: join(closed, "below", "data") });
    const path = await writeDisk();

    const result = await stack.commandLine.json("import", path);

    expect(statSync(closed).mode & 0o777).toBe(0o700);
    expect(result).toMatchObject({ exitCode: 0, answer: await digestsOf(path) });
  });
});

describe("a stack where proxy variables name a proxy that does not answer", () => {
  it("becomes ready, and commands reach it", async () => {
    const proxy = "http://127.0.0.1:9";
    const names = ["http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "grpc_proxy"];
    const env = Object.fromEntries([
      ...names.flatMap((name) => [
        [name, proxy],
        [name.toUpperCase(), proxy],
      ]),
      // A list that names other hosts must not matter either.
      ...["no_proxy", "NO_PROXY", "no_grpc_proxy"].map((name) => [name, "example.org"]),
    ]) as NodeJS.ProcessEnv;
    const stack = await startStack({ env });
    const path = await writeDisk();

    expect(await stack.commandLine.json("import", path)).toMatchObject({ exitCode: 0 });
    expect(await stack.commandLine.json("doctor")).toMatchObject({ exitCode: 0 });
  });
});

describe("a stack of an ordinary user", () => {
  // Without root the other tests show it: they all run as the current user.
  it.runIf(isRoot)(`imports with that user's rights alone${skipReason}`, async () => {
    const home = makeTemporaryDirectory();
    chownSync(home, NOBODY, NOBODY);
    const path = join(home, "disk.raw");
    await writeRandomFile(path, 4 * MIB);
    const stack = await startStack({
      dataDir: join(home, "data"),
      prefix: AS_NOBODY,
      env: { HOME: home },
    });
    const imageId = randomUUID();

    const result = await stack.commandLine.json("import", path, "--id", imageId);

    expect(result).toMatchObject({ exitCode: 0, answer: await digestsOf(path) });
    const { postgres, temporal, worker } = stack.file.pids;
    expect([postgres, temporal, worker].map((pid) => userOf(pid ?? 0))).toEqual([
      NOBODY,
      NOBODY,
      NOBODY,
    ]);
    expect(statSync(join(stack.store("local"), `${imageId}.1`)).uid).toBe(NOBODY);
  });
});
