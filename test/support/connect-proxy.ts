import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { onTestFinished } from "vitest";

/** The behaviour of a {@link ConnectProxy} at a request for a tunnel. */
export interface ProxyBehaviour {
  /** `user:password` that it wants. Default: none. */
  readonly credentials?: string;
  /** Answers with this status instead of a tunnel. Default: 200. */
  readonly status?: number;
}

/**
 * A proxy that knows CONNECT alone, and leads each tunnel to a port of this machine, whatever
 * address it is asked for.
 */
export class ConnectProxy {
  /** The targets that it was asked for: `host:port`. */
  readonly targets: string[] = [];
  /** Requests that were not CONNECT. */
  readonly others: string[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(targetPort: number, { credentials, status = 200 }: ProxyBehaviour) {
    this.#server = createServer((request, response) => {
      this.others.push(`${request.method ?? ""} ${request.url ?? ""}`);
      response.writeHead(405).end();
    });
    this.#server.on("connection", (socket: Socket) => {
      this.#keep(socket);
    });
    this.#server.on("connect", (request: IncomingMessage, socket: Socket) => {
      this.targets.push(request.url ?? "");
      const basic = `Basic ${Buffer.from(credentials ?? "").toString("base64")}`;
      const isKnown = credentials === undefined || request.headers["proxy-authorization"] === basic;
      const answer = isKnown ? status : 407;
      socket.write(`HTTP/1.1 ${String(answer)} Whatever\r\n\r\n`);
      if (answer !== 200) {
        socket.end();
        return;
      }
      const target = connect(targetPort, "127.0.0.1");
      this.#keep(target);
      target.pipe(socket).pipe(target);
    });
  }

  /** Starts one. It is gone when the test has finished. */
  static async start(targetPort: number, behaviour: ProxyBehaviour = {}): Promise<ConnectProxy> {
    const proxy = new ConnectProxy(targetPort, behaviour);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    onTestFinished(() => proxy.stop());
    return proxy;
  }

  get url(): URL {
    return new URL(`http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`);
  }

  /** Ends all connections and takes no more. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => undefined).on("close", () => this.#sockets.delete(socket));
  }
}
