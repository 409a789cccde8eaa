import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { afterAll, beforeAll } from "vitest";
import { ensureVersitygw } from "../../scripts/versitygw.mjs";
import { findFreePort } from "../../src/stack/ports.ts";
import { isRunning } from "../../src/processes/process-table.ts";
import { Program, waitUntilReady } from "../../src/stack/program.ts";
import { makeServicesDirectory, markOf } from "./services-directory.ts";
import { waitForStandstill } from "./standstill.ts";

// Only one who runs vitest by hand may have to wait for the server to be built.
const START_LIMIT_MS = 15 * 60_000;

// What the server says when it can't keep its metadata on a file system.
const NO_ATTRIBUTES = "xattrs are not supported";

/** The address of an {@link S3Server}, the same at every start. */
interface Place {
  readonly program: string;
  readonly port: number;
  readonly data: string;
}

/**
 * A real S3 server (versitygw) in a process of its own; buckets are folders, objects are files in
 * them.
 */
export class S3Server {
  readonly accessKeyId = randomBytes(10).toString("hex").toUpperCase();
  readonly secretAccessKey = randomBytes(20).toString("hex");
  readonly region = "us-east-1";
  readonly #logs = makeServicesDirectory();
  readonly #directories = new Set([this.#logs]);
  #place: Place | undefined;
  #client: S3Client | undefined;
  #process: Program | undefined;

  /** Address without a path, `http://127.0.0.1:PORT`. @throws Error before the first start */
  get endpoint(): string {
    return `http://127.0.0.1:${this.#started.port}`;
  }

  /**
   * Holds a folder for each bucket, in which the object `a/b` is the file `a/b`, and the parts of
   * uploads that are not complete are below `.sgwtmp`. @throws Error before the first start
   */
  get directory(): string {
    return this.#started.data;
  }

  /** The credentials, where the standard chain of an AWS client looks for them. */
  get env(): Readonly<Record<"AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY", string>> {
    return { AWS_ACCESS_KEY_ID: this.accessKeyId, AWS_SECRET_ACCESS_KEY: this.secretAccessKey };
  }

  /** For what a test itself does to the server or asks it; ends with the server. */
  get client(): S3Client {
    return (this.#client ??= new S3Client({
      endpoint: this.endpoint,
      region: this.region,
      forcePathStyle: true,
      credentials: { accessKeyId: this.accessKeyId, secretAccessKey: this.secretAccessKey },
    }));
  }

  /** Starts it, after {@link kill} with the same address and data; returns once it answers. */
  async start(): Promise<void> {
    if (this.#place === undefined) this.#place = await this.#startInFirstPlace();
    else await this.#startIn(this.#place);
  }

  /** Makes an empty bucket with a new name, and returns the name. */
  async makeBucket(): Promise<string> {
    const name = `bucket-${randomBytes(6).toString("hex")}`;
    await this.client.send(new CreateBucketCommand({ Bucket: name }));
    return name;
  }

  /** Kills it at once (SIGKILL), and waits until it is gone; it stays down until {@link start}. */
  async kill(): Promise<void> {
    this.#signal("SIGKILL");
    await this.#process?.ended;
  }

  /**
   * Makes it stand still (SIGSTOP), and waits until all of its threads do: connections are taken,
   * none is answered.
   */
  async pause(): Promise<void> {
    this.#signal("SIGSTOP");
    await waitForStandstill(this.#process?.process?.pid);
  }

  /** Lets it continue (SIGCONT). */
  resume(): void {
    this.#signal("SIGCONT");
  }

  /** Ends it, paused or not, and removes what it has stored. */
  async stop(): Promise<void> {
    this.#client?.destroy();
    await this.kill();
    for (const path of this.#directories) rmSync(path, { recursive: true, force: true });
  }

  get #started(): Place {
    if (this.#place === undefined) throw new Error("The S3 server was not started");
    return this.#place;
  }

  /**
   * It keeps metadata in extended attributes, which not every file system for temporary files has.
   */
  async #startInFirstPlace(): Promise<Place> {
    const program = await ensureVersitygw();
    if (program === undefined)
      throw new Error("Cannot start the S3 server of the tests: there is no versitygw, see above");
    const port = await findFreePort();
    for (const makeDirectory of [() => this.#logs, makeLastingDirectory]) {
      const directory = makeDirectory();
      this.#directories.add(directory);
      const place = { program, port, data: join(directory, "data") };
      mkdirSync(place.data);
      if (await this.#canStartIn(place)) return place;
    }
    throw new Error(
      `Neither ${[...this.#directories].join(" nor ")} keeps extended attributes, which the S3 server needs: ` +
        "set TMPDIR to a directory that does",
    );
  }

  async #canStartIn(place: Place): Promise<boolean> {
    try {
      await this.#startIn(place);
      return true;
    } catch (error) {
      if (error instanceof Error && error.message.includes(NO_ATTRIBUTES)) return false;
      throw error;
    }
  }

  async #startIn({ program, port, data }: Place): Promise<void> {
    const address = `127.0.0.1:${port}`;
    const options = ["--port", address, "--keep-alive", "--quiet", "--health", "/health"];
    const server = new Program({
      name: "versitygw",
      command: [program, ...options, "posix", data],
      // Marked, so that the next run finds and ends it, should this one be killed.
      env: {
        ...markOf(this.#logs),
        ROOT_ACCESS_KEY_ID: this.accessKeyId,
        ROOT_SECRET_ACCESS_KEY: this.secretAccessKey,
      },
      logFile: join(this.#logs, "versitygw.log"),
      stop: { signal: "SIGTERM", withinMs: 10_000 },
    });
    this.#process = server;
    // A test run that is broken off does not come to its end.
    const killServer = (): void => {
      this.#signal("SIGKILL");
    };
    process.once("exit", killServer);
    void server.ended.then(() => process.off("exit", killServer));
    await waitUntilReady(server, async () => (await fetch(`http://${address}/health`)).ok);
  }

  #signal(signal: NodeJS.Signals): void {
    const identity = this.#process?.process;
    if (identity !== undefined && isRunning(identity)) process.kill(identity.pid, signal);
  }
}

/** Starts an S3 server before the tests of a file and ends it after them. */
export function useS3Server(): S3Server {
  const server = new S3Server();
  beforeAll(() => server.start(), START_LIMIT_MS);
  afterAll(() => server.stop());
  return server;
}

/** Outside of the directory for temporary files, which may be one in memory. */
function makeLastingDirectory(): string {
  return mkdtempSync("/var/tmp/image-import-services-");
}
