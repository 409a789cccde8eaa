import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { onTestFinished } from "vitest";

/** Stands between a client and a server, and lets so many bytes of the client through. */
export class UploadGate {
  /** Bytes of the client that went through, over all connections. */
  passedBytes = 0;
  readonly #target: URL;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  #allowedBytes: number;

  private constructor(target: URL, allowedBytes: number) {
    this.#target = target;
    this.#allowedBytes = allowedBytes;
    this.#server = createServer((client) => {
      this.#relay(client);
    });
  }

  /** Opens a way to the server of this address; ends with the running test. */
  static async open(address: string, allowedBytes: number): Promise<UploadGate> {
    const gate = new UploadGate(new URL(address), allowedBytes);
    gate.#server.listen(0, "127.0.0.1");
    await once(gate.#server, "listening");
    onTestFinished(() => {
      gate.#server.close();
      for (const client of gate.#clients) client.destroy();
    });
    return gate;
  }

  get url(): string {
    return `http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
  }

  /** Lets everything through from here on. */
  open(): void {
    this.#allowedBytes = Infinity;
    for (const client of this.#clients) client.resume();
  }

  #relay(client: Socket): void {
    const server = connect(Number(this.#target.port), this.#target.hostname);
    this.#clients.add(client);
    client.on("data", (bytes) => {
      this.passedBytes += bytes.length;
      server.write(bytes);
      if (this.passedBytes >= this.#allowedBytes) client.pause();
    });
    server.on("data", (bytes) => client.write(bytes));
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      // A connection that breaks is what this is for.
      socket.on("error", () => undefined);
      socket.on("close", () => {
        this.#clients.delete(client);
        other.destroy();
      });
    }
  }
}
