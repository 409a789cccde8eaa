import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { open, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import type { Dispatcher } from "undici";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { Digests } from "../../src/domain/digests.ts";
import { connectTo, type Queries } from "../../src/db/connect.ts";
import { databaseFailure } from "../../src/db/database-failure.ts";
import { beginCopyRemoval } from "../../src/db/deletion-records.ts";
import { imageKeys, writeProperties } from "../../src/db/image-records.ts";
import { isAfter, orderOf } from "../../src/db/keyset.ts";
import { addMember } from "../../src/db/member-records.ts";
import { findResumable } from "../../src/db/resumable-records.ts";
import { images } from "../../src/db/schema.ts";
import { requireImageFields } from "../../src/domain/image-fields.ts";
import { IMPORT_FAILURES, ImportError } from "../../src/domain/import-failure.ts";
import { unknownTransform } from "../../src/domain/import-request.ts";
import { assertSafe } from "../../src/formats/assert-safe.ts";
import type { DeclaredFormats } from "../../src/formats/declared-format.ts";
import { EgressPolicy } from "../../src/sources/egress-policy.ts";
import { getFollowing } from "../../src/sources/follow-redirects.ts";
import { openWebSource } from "../../src/sources/open-web-source.ts";
import { judgeAnswer } from "../../src/sources/origin-answer.ts";
import { originFailure } from "../../src/sources/origin-failure.ts";
import { SealingKeys } from "../../src/sources/sealing-keys.ts";
import { readSecretFile } from "../../src/sources/secret-file.ts";
import { WebSource } from "../../src/sources/web-source.ts";
import { parseWebUrl } from "../../src/sources/web-url.ts";
import { pathOfStagingUri } from "../../src/staging/staging-uri.ts";
import { volumeIdOf } from "../../src/staging/volume-id.ts";
import { FileStore } from "../../src/stores/file-store.ts";
import { Stores } from "../../src/stores/open-stores.ts";
import { S3Failure } from "../../src/stores/s3-failure.ts";
import { S3Store } from "../../src/stores/s3-store.ts";
import { StoreMark, type MarkRecords } from "../../src/stores/store-mark.ts";
import { noCatalogue } from "../../src/stores/store.ts";
import { startLimited } from "../../src/transforms/limited-program.ts";
import { loadTransform } from "../../src/transforms/load-transform.ts";
import { Transforms } from "../../src/transforms/open-transforms.ts";
import { DoubtfulFailure, requireUndisturbed } from "../../src/transforms/program-failure.ts";
import { conversionFailed, inspectDisk } from "../../src/transforms/qemu-img.ts";
import { claimantOf, useCatalogue } from "../support/catalogue.ts";
import {
  be,
  craftedLuks,
  craftedVhdx,
  craftedVmdk,
  DESCRIPTOR,
  patched,
} from "../support/crafted-images.ts";
import { FAILED_STEP, reportOf, shownByRecord, shownByRun } from "../support/failure-path.ts";
import { judged } from "../support/judged.ts";
import { openNode, runStep, someBytes, WEB_SETTINGS } from "../support/node-rig.ts";
import { planOf } from "../support/step-orders.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const catalogue = useCatalogue();

/** Files without a row, with the reason. */
const EXEMPT = [
  // The table itself, a column, and the record that fills it.
  "domain/import-failure.ts",
  "db/schema.ts",
  "db/task-records.ts",
  // Thrown only in a process without CAP_CHOWN: see `test/stores/file-owner.test.ts`.
  "stores/file-copies.ts",
];

const SOURCES = fileURLToPath(new URL("../../src", import.meta.url));
/** The rooms whose failures reach the caller of an import. */
const ROOMS = "activities db domain formats sources staging stores transforms".split(" ");

/** Throws a failure with a hint of its own, by the source file that has the hint. */
const THROWERS: Readonly<Record<string, () => unknown>> = {
  "activities/claim-import.ts": async () => {
    const rig = await openNode(catalogue);
    const imageId = await catalogue.newImage();
    const uri = "https://example.org/disk.raw?signature=1";
    return rig.control.claimImport(
      { image_id: imageId, method: "web-download", uri },
      claimantOf(imageId),
    );
  },
  "activities/confirm-copies.ts": async () => {
    const rig = await openNode(catalogue);
    const plan = await rig.saved(someBytes(100));
    await rm(rig.copyPath(plan, "fast"));
    const { image_id, epoch } = plan;
    const digests = { sizeBytes: 100 } as Digests;
    return runStep(() => rig.cleanUp.confirmCopies({ image_id, epoch, digests }));
  },
  "activities/copy-source.ts": async () => {
    const rig = await openNode(catalogue);
    const imported = await rig.import(someBytes(100));
    await rm(rig.copyPath(imported, "fast"));
    const request = { image_id: imported.image_id, method: "copy-image", stores: ["slow"] };
    const accepted = await rig.control.claimImport(request, claimantOf(imported.image_id));
    const { image_id, epoch, task_id, uri } = planOf(accepted);
    const from = "stores" as const;
    const order = { image_id, epoch, task_id, uri, store: "slow", size: 100, from };
    return runStep(() => rig.bytes.storeImage(order));
  },
  "db/claim-records.ts": async () => {
    const rig = await openNode(catalogue);
    return rig.claim(await catalogue.newImage({ diskFormat: undefined }), { uri: rig.uri("disk") });
  },
  "db/connect.ts": () => connectTo("no url", {}),
  "db/database-failure.ts": () => {
    throw databaseFailure(
      Object.assign(new Error("permission denied for table images"), {
        name: "PostgresError",
        code: "42501",
      }),
    );
  },
  "db/deletion-records.ts": async () => {
    const rig = await openNode(catalogue);
    const { image_id } = await rig.import(someBytes(100));
    return inTransaction((db) => beginCopyRemoval(db, image_id, "fast"));
  },
  "db/image-records.ts": async () => {
    const imageId = await catalogue.newImage();
    return inTransaction((db) => writeProperties(db, imageId, { os_glance_x: "1" }));
  },
  "db/keyset.ts": () =>
    inTransaction((db) => {
      const order = orderOf(imageKeys(images));
      return isAfter(db, images, order, randomUUID());
    }),
  "db/member-records.ts": async () => {
    const imageId = await catalogue.newImage({ visibility: "private" });
    return inTransaction((db) => addMember(db, imageId, "project"));
  },
  "db/resumable-records.ts": async () => {
    const upload = { imageId: await catalogue.newImage(), generation: "00000000" };
    return inTransaction((db) => findResumable(db, upload));
  },
  "db/upload-records.ts": async () => {
    const imageId = await catalogue.stagedImage();
    return catalogue.beginStaging(imageId);
  },
  "domain/image-fields.ts": () => {
    requireImageFields({ properties: { id: "1" } });
  },
  "domain/import-request.ts": () => {
    throw unknownTransform("align", []);
  },
  "domain/tls-failure.ts": () => {
    const expired = withCode("certificate has expired", "CERT_HAS_EXPIRED");
    throw new S3Failure("list", expired, { caFile: "`ca_file`", address: "`endpoint`" });
  },
  "formats/assert-safe.ts": async () => refuse(someBytes(4096), { diskFormat: "qcow2" }),
  "formats/check-rules.ts": async () => refuse(someBytes(4096), { diskFormat: "vdi" }),
  "formats/declared-format.ts": async () => refuse(craftedVhdx(), { diskFormat: "raw" }),
  "formats/detector.ts": async () => refuse(craftedVmdk().subarray(0, 1024)),
  "formats/judge-image.ts": async () => refuse(Buffer.alloc(0)),
  "formats/luks.ts": async () => refuse(patched(craftedLuks(1), [104, be(4, 0)])),
  "formats/vmdk-descriptor.ts": async () =>
    refuse(craftedVmdk(`${DESCRIPTOR}changeTrackPath="other-ctk.vmdk"\n`)),
  "formats/vmdk.ts": async () => refuse(patched(craftedVmdk(), [8, "\x01\0\0\0"], [73, "\n \n\n"])),
  "sources/egress-policy.ts": () => {
    new EgressPolicy(WEB_SETTINGS).requireUrl(new URL("ftp://example.org/disk.raw"));
  },
  "sources/follow-redirects.ts": async () => {
    const headers = { location: "http://example.org/disk.raw" };
    return getFollowing(answering(302, headers), new EgressPolicy(WEB_SETTINGS), {
      url: new URL("https://example.org/disk.raw"),
      headers: {},
      answerTimeoutMs: 1000,
      signal: new AbortController().signal,
    });
  },
  "sources/open-web-source.ts": () =>
    openWebSource({
      ...WEB_SETTINGS,
      caFile: join(makeTemporaryDirectory(), "missing.pem"),
      ...{ proxyUrl: undefined, proxyCredentialsFile: undefined, noProxy: [] },
    }),
  "sources/origin-answer.ts": async () => {
    const url = new URL("https://example.org/disk.raw");
    const response = await answering(403, {}).request({ path: "/", method: "GET" });
    return judgeAnswer({ response, url }, undefined);
  },
  "sources/origin-failure.ts": () => {
    throw originFailure(withCode("no such host", "ENOTFOUND"), "https://example.org/disk.raw");
  },
  "sources/sealing-keys.ts": () => new SealingKeys().seal(randomUUID(), "https://example.org?x=1"),
  "sources/secret-file.ts": async () => readSecretFile("key file", await fileWith("secret", 0o644)),
  "sources/web-download.ts": async () => {
    const cutOff: RequestListener = (_request, response) => {
      response.writeHead(200, { "content-length": 100 });
      response.write(Buffer.alloc(10), () => response.destroy());
    };
    const port = await serve(cutOff);
    const allowed = { ports: [port], allowedNetworks: ["127.0.0.0/8"] };
    await using download = await new WebSource({ ...WEB_SETTINGS, ...allowed }).open({
      url: `http://127.0.0.1:${port}/disk.raw`,
      earlyEnd: { how: "broke", atByte: 10, times: 1 },
      maxBytes: 1000,
      signal: new AbortController().signal,
    });
    while ((await download.read(Buffer.alloc(100))) > 0);
  },
  "sources/web-url.ts": () => parseWebUrl("https://user:password@example.org/disk.raw"),
  "staging/staging-area.ts": async () => {
    const { staging } = (await openNode(catalogue)).dependencies;
    await rm(join(staging.root, ".image-import-node"));
    return staging.listParts(0);
  },
  "staging/volume-id.ts": () =>
    volumeIdOf(makeTemporaryDirectory(), {
      find: async () => "0123456789ab",
      record: async () => undefined,
    }),
  "staging/staging-uri.ts": () => pathOfStagingUri("file://relative"),
  "stores/store-directory.ts": async () => {
    const path = join(makeTemporaryDirectory(), "missing/store");
    const mark = markOf({ find: async () => randomUUID() });
    return new FileStore({ name: "fast", path, mark, zeroCopy: false }).open("key");
  },
  "stores/open-stores.ts": async () => {
    const path = makeTemporaryDirectory();
    const readOnly = { type: "file", path, zeroCopy: false, readOnly: true } as const;
    (await Stores.open({ fast: readOnly }, "fast")).requireWritable("fast");
  },
  "stores/s3-store.ts": async () => {
    const port = await serve((_request, response) => {
      response.writeHead(404, { "content-type": "application/xml" });
      response.end("<Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>");
    });
    return new S3Store({
      name: "objects",
      bucket: "images",
      region: "us-east-1",
      endpoint: `http://127.0.0.1:${port}`,
      pathStyle: true,
      checksums: "when_required",
      credentials: { accessKeyId: "key", secretAccessKey: "secret" },
      mark: markOf({ find: async () => randomUUID() }),
    }).find("key");
  },
  "stores/store-mark.ts": async () => {
    const place = {
      title: "directory",
      read: async () => undefined,
      write: async (mark: string) => mark,
      holds: async () => false,
    };
    await markOf({ find: async () => randomUUID() }).require(place, "write");
  },
  "stores/store.ts": () => {
    throw noCatalogue("fast");
  },
  "transforms/load-transform.ts": async () =>
    loadTransform(await fileWith("export default {};", 0o600, "transform.mjs")),
  "transforms/open-transforms.ts": () => Transforms.of([]).get("align"),
  "transforms/program-failure.ts": () => {
    try {
      requireUndisturbed({ exitCode: null, killedBy: "SIGKILL", stderr: "" }, conversionFailed);
    } catch (error) {
      throw error instanceof DoubtfulFailure ? error.lasting : error;
    }
  },
  "transforms/qemu-img.ts": async () => {
    const hanging = await fileWith("#!/bin/sh\nexec sleep 60\n", 0o755);
    const handle = await open(await fileWith("", 0o600, "disk"));
    onTestFinished(() => handle.close());
    const { signal } = new AbortController();
    return inspectDisk(hanging, { handle, driver: "raw" }, signal, 100);
  },
  "transforms/limited-program.ts": async () => {
    vi.stubEnv("PATH", "/nowhere");
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
    const limits = { memoryBytes: 1024 ** 3, cpuSeconds: 10, fileBytes: 0 };
    const signal = new AbortController().signal;
    const running = await startLimited({ command: "true", arguments: [], limits, signal });
    return running.ended;
  },
};

describe("a hint of the place that fails", () => {
  it.each(Object.entries(THROWERS))("reaches the caller from %s", async (_, thrower) => {
    const error = await thrownBy(thrower);
    expect(error.hint).not.toBe(IMPORT_FAILURES[error.code].hint);

    const report = await reportOf(error);

    const shown = `error: ${FAILED_STEP.name} "${FAILED_STEP.store}": ${error.message}\nhint: ${error.hint}\n`;
    expect(report.code).toBe(error.code);
    expect(shownByRun(report)).toBe(shown);
    expect(shownByRecord(report)).toBe(shown);
  });

  it("has a row above in each source file that has one", () => {
    const tailored = ROOMS.flatMap((room) =>
      readdirSync(join(SOURCES, room))
        .filter((name) => name.endsWith(".ts") && hasTailoredHint(join(SOURCES, room, name)))
        .map((name) => `${room}/${name}`),
    );

    expect([...Object.keys(THROWERS), ...EXEMPT].sort()).toEqual(tailored.sort());
  });
});

/** True if a source file sets a hint that is not a property of another failure. */
function hasTailoredHint(path: string): boolean {
  const source = ts.createSourceFile(path, readFileSync(path, "utf8"), ts.ScriptTarget.Latest);
  const isTailored = (node: ts.Node): boolean =>
    (ts.isShorthandPropertyAssignment(node) && node.name.text === "hint") ||
    (ts.isPropertyAssignment(node) &&
      ts.isIdentifier(node.name) &&
      node.name.text === "hint" &&
      !ts.isPropertyAccessExpression(node.initializer) &&
      !ts.isPropertyAccessChain(node.initializer)) ||
    (ts.forEachChild(node, (child) => isTailored(child) || undefined) ?? false);
  return isTailored(source);
}

async function thrownBy(thrower: () => unknown): Promise<ImportError> {
  try {
    await thrower();
  } catch (error) {
    if (error instanceof ImportError) return error;
    throw error;
  }
  throw new Error("It did not fail");
}

async function inTransaction<T>(work: (db: Queries) => Promise<T>): Promise<T> {
  return catalogue.database.transaction(work);
}

/** Judges bytes, and refuses them. */
async function refuse(bytes: Buffer, declared: Partial<DeclaredFormats> = {}): Promise<void> {
  const formats = { diskFormat: null, containerFormat: "bare", ...declared } as DeclaredFormats;
  const asDeclared = declared.diskFormat === undefined ? undefined : formats;
  assertSafe(await judged(bytes, {}, asDeclared), asDeclared);
}

function withCode(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}

function answering(statusCode: number, headers: Readonly<Record<string, string>>): Dispatcher {
  const body = { on: () => body, destroy: () => body };
  return { request: async () => ({ statusCode, headers, body }) } as unknown as Dispatcher;
}

/** A server of the running test. @returns its port */
async function serve(listener: RequestListener): Promise<number> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function fileWith(text: string, mode: number, name = "file"): Promise<string> {
  const path = join(makeTemporaryDirectory(), name);
  await writeFile(path, text, { mode });
  return path;
}

function markOf(records: Partial<MarkRecords>): StoreMark {
  return new StoreMark({
    store: "fast",
    records: { listCopies: async () => [], ...records } as MarkRecords,
    isConfigured: () => true,
    isReadOnly: false,
  });
}
