/** The members of documents that tests look at; a document has those of its kind. */
export interface WireDocument {
  readonly id: string;
  readonly name: string | null;
  readonly status: string;
  readonly size: number | null;
  readonly checksum: string | null;
  readonly os_hash_value: string | null;
  readonly created_at: string;
  readonly tags: readonly string[];
  readonly images: readonly WireDocument[];
  readonly members: readonly WireDocument[];
  readonly tasks: readonly WireDocument[];
  readonly versions: readonly WireDocument[];
  readonly properties: Readonly<Record<string, object>>;
  readonly next?: string;
  readonly error: {
    readonly code: number;
    readonly title: string;
    readonly message: string;
    readonly failure?: string;
    readonly hint?: string;
  };
}

/** The answer to a request. */
export interface WireAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** The body, if it is JSON; else an empty document. */
  readonly body: WireDocument;
  readonly bytes: Buffer;
}

/** A client that sends what a test wants, and hides nothing of the answer. */
export class WireClient {
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(url: string, headers: Readonly<Record<string, string>> = {}) {
    this.#url = url;
    this.#headers = headers;
  }

  async send(
    method: string,
    path: string,
    options: {
      readonly json?: unknown;
      readonly bytes?: Uint8Array | ReadableStream;
      readonly headers?: Readonly<Record<string, string>>;
    } = {},
  ): Promise<WireAnswer> {
    const { json, bytes, headers = {} } = options;
    const answer = await fetch(`${this.#url}${path}`, {
      method,
      redirect: "manual",
      headers: {
        ...this.#headers,
        ...(json === undefined ? {} : { "content-type": "application/json" }),
        ...(bytes === undefined ? {} : { "content-type": "application/octet-stream" }),
        ...headers,
      },
      ...(json === undefined ? {} : { body: JSON.stringify(json) }),
      ...(bytes === undefined ? {} : { body: bytes, duplex: "half" }),
    });
    const received = Buffer.from(await answer.arrayBuffer());
    // HEAD has the type of a body, and none.
    const isJson =
      received.length > 0 &&
      answer.headers.get("content-type")?.startsWith("application/json") === true;
    return {
      status: answer.status,
      headers: answer.headers,
      body: (isJson ? JSON.parse(received.toString()) : {}) as WireDocument,
      bytes: received,
    };
  }

  /** Creates an image, `raw` in `bare` unless something else is given, and returns it. */
  async create(fields: object = {}): Promise<WireDocument> {
    const json = { name: "an image", disk_format: "raw", container_format: "bare", ...fields };
    const { status, body } = await this.send("POST", "/v2/images", { json });
    if (status !== 201) throw new Error(`${String(status)} ${JSON.stringify(body)}`);
    return body;
  }

  /** Creates an image with data, and returns its id. */
  async active(bytes: Uint8Array, fields: object = {}): Promise<string> {
    const { id } = await this.create(fields);
    const { status, body } = await this.send("PUT", `/v2/images/${id}/file`, { bytes });
    if (status !== 204) throw new Error(`${String(status)} ${JSON.stringify(body)}`);
    return id;
  }
}
