import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { findFreePort } from "#dist/stack/ports.js";
import { Program, waitUntilReady } from "#dist/stack/program.js";
import { ensureVersitygw } from "../versitygw.mjs";

const BUCKET = "bench";

/**
 * A real S3 server (versitygw) with one bucket that keeps objects as files. Its address and
 * credentials are known before it starts, for the configuration of the service; it runs only while
 * a case needs it.
 */
export class S3Server {
  #directory;
  #port;
  #accessKeyId = randomBytes(10).toString("hex").toUpperCase();
  #secretAccessKey = randomBytes(20).toString("hex");
  /** @type {Program | undefined} */
  #program;

  /** @param {string} directory @param {number} port */
  constructor(directory, port) {
    this.#directory = directory;
    this.#port = port;
  }

  /** A server that will keep its data in a directory. @param {string} directory */
  static async in(directory) {
    return new S3Server(directory, await findFreePort());
  }

  get endpoint() {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Its section in the configuration of the service, as a store. */
  get store() {
    return { type: "s3", bucket: BUCKET, endpoint: this.endpoint };
  }

  /** The credentials, where every AWS client looks for them. */
  get env() {
    return {
      AWS_ACCESS_KEY_ID: this.#accessKeyId,
      AWS_SECRET_ACCESS_KEY: this.#secretAccessKey,
    };
  }

  /** `s3://bucket/key`. @param {string} key */
  url(key) {
    return `s3://${BUCKET}/${key}`;
  }

  /**
   * Returns true once it responds, or false, with the reason on stderr, if there is no versitygw.
   */
  async start() {
    const program = await ensureVersitygw();
    if (program === undefined) return false;
    const data = join(this.#directory, "data");
    // A directory below its root is a bucket.
    mkdirSync(join(data, BUCKET), { recursive: true });
    const address = `127.0.0.1:${this.#port}`;
    const options = ["--port", address, "--keep-alive", "--quiet", "--health", "/health"];
    this.#program = new Program({
      name: "versitygw",
      command: [program, ...options, "posix", data],
      env: {
        ROOT_ACCESS_KEY_ID: this.#accessKeyId,
        ROOT_SECRET_ACCESS_KEY: this.#secretAccessKey,
      },
      logFile: join(this.#directory, "versitygw.log"),
      stop: { signal: "SIGTERM", withinMs: 10_000 },
    });
    await waitUntilReady(this.#program, async () => (await fetch(`${this.endpoint}/health`)).ok);
    return true;
  }

  /** Ends it, if it was started. */
  async stop() {
    await this.#program?.stop();
  }
}
