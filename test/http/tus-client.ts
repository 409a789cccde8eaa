import { once } from "node:events";
import { request, type ClientRequest, type IncomingMessage } from "node:http";
import postgres from "postgres";
import { expect, onTestFinished } from "vitest";
import type { SharedStack } from "../support/shared-stack.ts";
import { WireClient, type WireAnswer } from "./wire-client.ts";

/** The headers of each request about an upload. */
export const TUS = { "tus-resumable": "1.0.0" };

/** The headers of each request that brings bytes of an upload. */
export const BYTES = { ...TUS, "content-type": "application/offset+octet-stream" };

/** `Upload-Metadata` of these pairs. */
export function metadata(pairs: Readonly<Record<string, string>>): string {
  return Object.entries(pairs)
    .map(([key, value]) => `${key} ${Buffer.from(value).toString("base64")}`)
    .join(",");
}

/** A client of uploads that sends what a test wants. */
export class TusClient extends WireClient {
  /**
   * Begins an upload of an image, a new one by default, and returns its path and the image's id.
   */
  async begin(
    size: number,
    pairs: Readonly<Record<string, string>> = {},
  ): Promise<{ readonly id: string; readonly path: string }> {
    const id = pairs["image_id"] ?? (await this.create()).id;
    const { status, headers } = await this.send("POST", "/uploads", {
      headers: {
        ...TUS,
        "upload-length": String(size),
        "upload-metadata": metadata({ image_id: id, ...pairs }),
      },
    });
    expect(status).toBe(201);
    expect(headers.get("upload-expires")).toMatch(/GMT$/);
    return { id, path: new URL(headers.get("location") ?? "").pathname };
  }

  /** Sends bytes of an upload with one request. */
  async patch(
    path: string,
    offset: number,
    bytes: Uint8Array,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<WireAnswer> {
    return this.send("PATCH", path, {
      bytes,
      headers: { ...BYTES, "upload-offset": String(offset), ...headers },
    });
  }

  async head(path: string): Promise<WireAnswer> {
    return this.send("HEAD", path, { headers: TUS });
  }

  /** The next byte that an upload needs. */
  async offsetOf(path: string): Promise<number> {
    return Number((await this.head(path)).headers.get("upload-offset"));
  }
}

/** A PATCH whose bytes a test sends one by one. */
export class OpenPatch {
  readonly #request: ClientRequest;
  readonly answer: Promise<number | undefined>;

  constructor(url: string, path: string, offset: number, lengthBytes: number, headers = {}) {
    this.#request = request(new URL(path, url), {
      method: "PATCH",
      headers: { ...BYTES, "upload-offset": offset, "content-length": lengthBytes, ...headers },
    });
    this.answer = once(this.#request, "response").then(
      ([answer]: IncomingMessage[]) => answer?.resume().statusCode,
      () => undefined,
    );
    this.#request.on("error", () => undefined);
    onTestFinished(() => {
      this.#request.destroy();
    });
  }

  send(bytes: Uint8Array): void {
    this.#request.write(bytes);
  }

  /** Ends the connection. */
  cut(): void {
    this.#request.destroy();
  }
}

/** Makes a time of the lease of an upload older, behind the back of the service. */
export async function changeLease(
  stack: SharedStack,
  id: string,
  column: string,
  ageSeconds: number,
): Promise<void> {
  const sql = postgres(stack.file.database_url, { max: 1 });
  await sql`UPDATE leases SET ${sql(column)} = now() - make_interval(secs => ${ageSeconds})
    WHERE image_id = ${id} AND place = 'upload'`;
  await sql.end();
}
