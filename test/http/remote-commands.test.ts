import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { CommandLine } from "../support/command-line.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";
import { Relay } from "../support/relay.ts";
import { SharedStack, writeDisk } from "../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { ApiProcess } from "./api-process.ts";

// The command line of a machine that has nothing but the address of the API: no stack, no database,
// no Temporal.

const stack = new SharedStack();

function away(url = stack.file.api_url ?? "", env: NodeJS.ProcessEnv = {}): CommandLine {
  return new CommandLine({
    env: {
      IMAGE_IMPORT_DATA_DIR: join(makeTemporaryDirectory(), "nowhere"),
      IMAGE_IMPORT_API: url,
      ...env,
    },
  });
}

/**
 * A proxy of an API, for which the token of the caller has expired at one path. @returns its URL
 */
async function refusing(api: string, path: string): Promise<string> {
  const server = createServer((incoming, response) => {
    if (incoming.url?.startsWith(path) === true) {
      response.writeHead(401).end();
      return;
    }
    const { method, headers, url = "" } = incoming;
    const forwarded = request(new URL(url, api), { method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    forwarded.on("error", () => response.destroy());
    incoming.pipe(forwarded);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
}

test("commands about images answer as they do on the host", async () => {
  const remote = away();
  const name = `remote ${randomUUID()}`;
  const created = (await remote.answer(
    ...["image", "create", "--name", name, "--disk-format", "raw", "--owner", "ours"],
    ...["--property", "os/distro~=debian", "--tag", "a", "--tag", "b"],
  )) as { id: string };
  const { id } = created;
  expect(created).toEqual(await stack.commandLine.answer("image", "show", id));
  expect(await remote.answer("image", "show", name)).toEqual(created);
  expect(await remote.answer("image", "show", id.slice(0, 13))).toEqual(created);

  const changed = await remote.answer(
    ...["image", "set", id, "--name", `${name} 2`, "--property", "x=1"],
    ...["--remove-property", "os/distro~", "--remove-property", "none", "--tag", "c"],
    ...["--remove-tag", "a"],
  );
  expect(changed).toMatchObject({ name: `${name} 2`, properties: { x: "1" } });
  expect(changed).toEqual(await stack.commandLine.answer("image", "show", id));

  const filter = ["--name", `${name}*`, "--tag", "c", "--property", "x=1", "--created-after", "1h"];
  const listed = await remote.answer("image", "list", ...filter);
  expect(listed).toEqual(await stack.commandLine.answer("image", "list", ...filter));
  expect(listed).toHaveLength(1);

  expect(await remote.answer("image", "delete", id)).toEqual({ id, status: "deleted" });
  const gone = await remote.json("image", "show", id);
  expect(gone).toMatchObject({ exitCode: 3, failure: { code: "ImageNotFound", image_id: id } });
});

test("a file is imported, followed and downloaded", async () => {
  const remote = away();
  const disk = writeDisk(5 * MIB + 1);
  const outcome = (await remote.answer("import", disk, "--name", "far")) as { image_id: string };
  const { image_id: id } = outcome;
  expect(outcome).toMatchObject({
    status: "active",
    size: 5 * MIB + 1,
    os_hash_value: createHash("sha512").update(readFileSync(disk)).digest("hex"),
  });
  expect(await remote.answer("status", id)).toEqual(await stack.commandLine.answer("status", id));
  expect(await remote.answer("watch", id)).toEqual(await stack.commandLine.answer("watch", id));
  expect(await remote.answer("image", "history", id)).toEqual(
    await stack.commandLine.answer("image", "history", id),
  );

  const output = join(mkdtempSync(join(makeTemporaryDirectory(), "out-")), "disk.raw");
  const written = await remote.answer("image", "download", id, "-o", output);
  expect(written).toMatchObject({ id, file: output });
  expect(readFileSync(output).equals(readFileSync(disk))).toBe(true);
  const again = await remote.json("image", "download", id, "-o", output);
  expect(again.failure).toMatchObject({ code: "UnusableFile" });
});

test("data is staged with its digests, and its import is started and detached from", async () => {
  const remote = away();
  const id = await stack.queuedImage();
  const disk = writeDisk(2 * MIB);
  const staged = await remote.answer("image", "stage", id, disk);
  expect(staged).toMatchObject({
    image_id: id,
    status: "uploading",
    size: 2 * MIB,
    checksum: createHash("md5").update(readFileSync(disk)).digest("hex"),
  });
  const other = await remote.json("image", "stage", id, writeDisk(2 * MIB));
  expect(other).toMatchObject({ exitCode: 4, failure: { code: "ImageConflict" } });
  const refused = await remote.json("start", id, "--wait", "--checksum", `md5:${"0".repeat(32)}`);
  expect(refused).toMatchObject({ exitCode: 1, failure: { code: "ChecksumMismatch" } });
  const accepted = await remote.answer("start", id);
  expect(accepted).toMatchObject({ image_id: id, status: "importing" });
  expect(await remote.answer("watch", id)).toMatchObject({ state: "succeeded" });
});

test("failures are those of the host, with their code and hint", async () => {
  const remote = away();
  const disk = writeDisk(70_000);
  const failed = await remote.json("import", disk, "--disk-format", "qcow2");
  const local = await stack.commandLine.json("import", disk, "--disk-format", "qcow2");
  const without = (result: typeof failed) => ({
    ...(result.failure as object),
    message: "",
    image_id: "",
    run_id: "",
    task_id: "",
  });
  expect(failed.exitCode).toBe(local.exitCode);
  expect(without(failed)).toEqual(without(local));
  expect(without(failed)).toMatchObject({ code: "FormatMismatch", image: "removed" });

  const unknown = await remote.json("import", disk, "--store", "nowhere");
  expect(unknown).toMatchObject({ exitCode: 2, failure: { code: "UnknownStore" } });
  const forbidden = await remote.json("import", "http://127.0.0.1:1/disk.raw");
  expect(forbidden).toMatchObject({ exitCode: 2, failure: { code: "BadRequest" } });
});

test("an upload is kept for another start when the options of the import are refused", async () => {
  const remote = away();
  const id = randomUUID();
  const common = ["--store", "local", "--size", "70000"];
  const args = ["import", writeDisk(70_000), "--id", id, ...common, "--transform", "nosuch"];
  const { exitCode, failure } = await remote.json(...args);
  expect([exitCode, failure]).toMatchObject([2, { code: "BadRequest", image: "kept" }]);
  const again = ["start", id, "--detect-format", ...common];
  const { hint } = failure as { hint: string };
  expect(hint).toContain(`\`image-import ${again.join(" ")} --transform nosuch\``);
  expect(await remote.answer(...again, "--wait")).toMatchObject({ status: "active" });
});

test("an import that was accepted is not to be started again when its events are refused", async () => {
  const id = randomUUID();
  const proxy = await refusing(stack.file.api_url ?? "", `/v1/imports/${id}/events`);
  const refused = await away(proxy).json("import", writeDisk(70_000), "--id", id);
  expect(refused).toMatchObject({ exitCode: 2, failure: { code: "AccessDenied", image: "kept" } });
  expect((refused.failure as { hint: string }).hint).not.toContain("image-import start");
  expect(await away().answer("watch", id)).toMatchObject({ status: "active" });
});

test("a running import is steered", async () => {
  const remote = away();
  const { image_id: id } = await stack.runningImport();
  expect(await remote.answer("pause", id)).toEqual({ image_id: id, status: "pausing" });
  expect(await remote.answer("resume", id)).toEqual({ image_id: id, status: "running" });
  const last = await remote.json("drop-store", id, "--store", "slow");
  expect(last).toMatchObject({ exitCode: 4, failure: { code: "ImageConflict" } });
  const watching = remote.start("watch", id);
  expect(await remote.answer("cancel", id, "--wait")).toEqual({
    image_id: id,
    status: "cancelled",
  });
  const watched = await watching.result();
  expect(watched).toMatchObject({ exitCode: 1, failure: { code: "ImportCancelled" } });
});

test("all running imports are watched, and an import is written as lines", async () => {
  const remote = away();
  const { image_id: id } = await stack.runningImport();
  const watching = remote.open("watch", "--no-progress");
  await watching.shows(`${id} verifying`);
  watching.interrupt();
  await watching.result();
  const { exitCode, lines } = await remote.jsonLines("import", writeDisk(70_000));
  expect(exitCode).toBe(0);
  expect(lines.map(({ event }) => event)).toEqual(
    expect.arrayContaining(["created", "accepted", "succeeded"]),
  );
  expect(lines.at(-1)).toMatchObject({ event: "succeeded", answer: { status: "active" } });
});

test("an import is followed through the death of the API", async () => {
  const api = await ApiProcess.start(stack);
  const relay = await Relay.open(api.url);
  const remote = away(relay.through(api.url));
  const id = await stack.heldImage();
  const following = remote.open("start", id, "--wait", "--store", "slow", "--no-progress");
  await stack.waitForRun(stack.commandLine, id);
  await relay.reached("/events?run_id=");
  await api.stop("SIGKILL");
  relay.cut();
  await following.shows("The API does not answer; the import continues");
  const next = await ApiProcess.start(stack);
  relay.leadTo(next.url);
  stack.release(id);
  const { exitCode, stdout } = await following.result();
  expect([exitCode, /status +active/.test(stdout)]).toEqual([0, true]);
});

test("a download continues after its connection broke", async () => {
  const id = await stack.activeImage();
  const bytes = await stack.commandLine.json("image", "show", id);
  expect(bytes.exitCode).toBe(0);
  const relay = await Relay.open(stack.file.api_url ?? "");
  relay.cutAnswersAfter(2000, 1);
  const output = join(makeTemporaryDirectory(), "disk.raw");
  const remote = away(relay.through(stack.file.api_url ?? ""));
  const { exitCode, stderr } = await remote.run("image", "download", id, "-o", output);
  expect([exitCode, stderr]).toEqual([0, expect.stringContaining("the download continues")]);
  expect(createHash("sha512").update(readFileSync(output)).digest("hex")).toBe(
    (bytes.answer as { os_hash_value: string }).os_hash_value,
  );
});

test("a token identifies the user, and is shown nowhere", async () => {
  const directory = makeTemporaryDirectory();
  const tokens = join(directory, "tokens.json");
  const token = `secret-${randomUUID()}`;
  const digest = createHash("sha256").update(token).digest("hex");
  writeFileSync(
    tokens,
    JSON.stringify({
      tokens: [{ digest: `sha256:${digest}`, user: "ann", project: "ours", roles: ["member"] }],
    }),
    { mode: 0o600 },
  );
  const api = await ApiProcess.start(stack, { identity: "tokens", tokens_file: tokens });
  const without = await away(api.url).json("image", "list");
  expect(without).toMatchObject({ exitCode: 2, failure: { code: "AccessDenied" } });
  expect(JSON.stringify(without.failure)).toContain("IMAGE_IMPORT_API_TOKEN");
  const mine = (await away(api.url, { IMAGE_IMPORT_API_TOKEN: token }).answer(
    ...["image", "create", "--name", `of ann ${randomUUID()}`],
  )) as { id: string; owner: string; name: string };
  expect(mine.owner).toBe("ours");
  // Another project's image of the same name is not seen.
  await stack.commandLine.answer("image", "create", "--name", mine.name, "--owner", "theirs");
  const found = await away(api.url, { OS_TOKEN: token }).answer("image", "show", mine.name);
  expect(found).toMatchObject({ id: mine.id });
  const wrong = await away(api.url).runVerbatim("image", "list", "--api-token", `${token}x`);
  expect(`${wrong.stdout}${wrong.stderr}${api.log}`).not.toContain(token);
  await vi.waitUntil(() => api.log.includes("Answered a request"), PATIENCE);
});

test("commands that need a host are refused with the way out", async () => {
  const remote = away();
  const commands = [["image", "verify", "--all"], ["stores", "--check"], ["doctor"], ["reconcile"]];
  for (const command of [...commands, ["image", "stage", randomUUID(), "--adopt"]]) {
    const { exitCode, failure } = await remote.json(...command);
    expect([command, exitCode, failure]).toMatchObject([command, 2, { code: "BadRequest" }]);
    expect(JSON.stringify(failure)).toContain("without `--api`");
  }
  const nobody = await away("http://127.0.0.1:1").json("image", "list");
  expect(nobody).toMatchObject({ exitCode: 1, failure: { code: "ApiUnavailable" } });
});
