/** The answer to a request, its body read as JSON if it is some. */
export interface WireAnswer {
  readonly status: number;
  readonly headers: Headers;
  // The tests look into documents of many shapes.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  readonly body: any;
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
    } as RequestInit);
    const text = Buffer.from(await answer.arrayBuffer());
    const isJson = answer.headers.get("content-type")?.startsWith("application/json") === true;
    return {
      status: answer.status,
      headers: answer.headers,
      body: isJson ? (JSON.parse(text.toString()) as unknown) : text,
    };
  }

  /** Creates an image, `raw` in `bare` unless something else is given, and returns it. */
  async create(fields: object = {}): Promise<{ readonly id: string } & Record<string, unknown>> {
    const json = { name: "an image", disk_format: "raw", container_format: "bare", ...fields };
    const { status, body } = await this.send("POST", "/v2/images", { json });
    if (status !== 201) throw new Error(`${String(status)} ${JSON.stringify(body)}`);
    return body as { readonly id: string } & Record<string, unknown>;
  }

  /** Creates an image with data, and returns its id. */
  async active(bytes: Uint8Array, fields: object = {}): Promise<string> {
    const { id } = await this.create(fields);
    const { status, body } = await this.send("PUT", `/v2/images/${id}/file`, { bytes });
    if (status !== 204) throw new Error(`${String(status)} ${JSON.stringify(body)}`);
    return id;
  }
}
