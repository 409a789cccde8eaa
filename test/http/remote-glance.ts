import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** The token that it takes. */
export const REMOTE_TOKEN = "a-secret-of-the-caller";

/** Another service that speaks Glance's API: its images by id, and what was asked of it. */
export class RemoteGlance implements AsyncDisposable {
  readonly images = new Map<string, Readonly<Record<string, unknown>>>();
  readonly bytes: Buffer;
  /** The tokens that came with the requests, of it and of the store that it redirects to. */
  readonly tokens: Readonly<Record<"service" | "store", (string | undefined)[]>> = {
    service: [],
    store: [],
  };
  readonly #service = createServer((request, response) => {
    this.#answer(request, response);
  });
  readonly #store = createServer((request, response) => {
    this.tokens.store.push(tokenOf(request));
    response.end(this.bytes);
  });

  private constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** Listens on loopback. @param bytes - the data of every image */
  static async open(bytes: Buffer): Promise<RemoteGlance> {
    const remote = new RemoteGlance(bytes);
    for (const server of [remote.#service, remote.#store]) {
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
    }
    return remote;
  }

  /** Its address, without `/v2`. */
  get url(): string {
    return urlOf(this.#service);
  }

  /** The ports that a download must be allowed to reach. */
  get ports(): number[] {
    return [this.#service, this.#store].map(portOf);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of [this.#service, this.#store]) {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const token = tokenOf(request);
    this.tokens.service.push(token);
    const [, id = "", file] = /^\/v2\/images\/([^/]+)(\/file)?$/.exec(request.url ?? "") ?? [];
    const image = this.images.get(id);
    if (token !== REMOTE_TOKEN || image === undefined) {
      response.writeHead(token === REMOTE_TOKEN ? 404 : 401).end();
    } else if (file === undefined) {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ id, ...image }));
    } else if (image["status"] === "active") {
      response.writeHead(302, { location: urlOf(this.#store) }).end();
    } else {
      response.writeHead(403).end();
    }
  }
}

function tokenOf({ headers }: IncomingMessage): string | undefined {
  return headers["x-auth-token"]?.toString();
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

function urlOf(server: Server): string {
  return `http://127.0.0.1:${String(portOf(server))}/`.replace(/\/$/, "");
}
