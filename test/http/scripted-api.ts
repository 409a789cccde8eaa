import { once } from "node:events";
import { createServer, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { onTestFinished } from "vitest";
import { RemoteService } from "../../src/remote/remote-service.ts";

/** A request as it came. */
export interface Asked {
  /** Such as `GET /v1/images`. */
  readonly line: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

/** An answer; a body other than a text is sent as JSON. */
export interface Told {
  readonly status?: number;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: unknown;
}

/** A server in the place of an API, whose every answer a test chooses. */
export class ScriptedApi {
  readonly url: string;
  /** The lines of the requests, in their order. */
  readonly lines: string[] = [];
  readonly service: RemoteService;

  private constructor(port: number) {
    this.url = `http://127.0.0.1:${String(port)}`;
    this.service = new RemoteService({ url: this.url, token: undefined }, () => undefined);
  }

  /** Listens until the running test has finished. */
  static async open(tell: (asked: Asked) => Told | Promise<Told>): Promise<ScriptedApi> {
    const server = createServer((request, response) => {
      const answer = async (): Promise<void> => {
        const line = `${request.method ?? ""} ${request.url ?? ""}`;
        api.lines.push(line);
        const asked = { line, headers: request.headers, body: await buffer(request) };
        const { status = 200, headers = {}, body = "" } = await tell(asked);
        response.writeHead(status, headers);
        response.end(typeof body === "string" ? body : JSON.stringify(body));
      };
      answer().catch(() => response.destroy());
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const api = new ScriptedApi((server.address() as AddressInfo).port);
    onTestFinished(async () => {
      await api.service.close();
      server.closeAllConnections();
      server.close();
    });
    return api;
  }
}
