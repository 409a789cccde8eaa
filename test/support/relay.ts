import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { onTestFinished } from "vitest";

/** Stands between a client and a server, and fails as networks do; ends with the running test. */
export class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isFrozen = false;
  #fatalRequest: string | undefined;

  private constructor(target: URL) {
    this.#server = createServer((client) => {
      this.#relay(client, connect(Number(target.port), target.hostname));
    });
  }

  /** Opens a way to the server of this address. */
  static async open(address: string): Promise<Relay> {
    const relay = new Relay(new URL(address));
    relay.#server.listen(0, "127.0.0.1");
    await once(relay.#server, "listening");
    onTestFinished(() => {
      relay.#server.close();
      relay.cut();
    });
    return relay;
  }

  /** The same address, by way of this relay. */
  through(address: string): string {
    const url = new URL(address);
    url.hostname = "127.0.0.1";
    url.port = String((this.#server.address() as AddressInfo).port);
    return url.href;
  }

  /** From here on connections are taken and stay open, and no byte gets through. */
  freeze(): void {
    this.#isFrozen = true;
  }

  /** New connections work again; those that were open stay silent. */
  thaw(): void {
    this.#isFrozen = false;
  }

  /** Ends all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /**
   * Lets a request that contains this text reach the server, and ends the connection instead of its
   * answer.
   */
  cutInsteadOfAnswerTo(text: string): void {
    this.#fatalRequest = text;
  }

  #relay(client: Socket, server: Socket): void {
    let isFatal = false;
    this.#keep(client, server);
    this.#keep(server, client);
    client.on("data", (bytes) => {
      if (this.#isFrozen) client.pause();
      isFatal ||= this.#fatalRequest !== undefined && bytes.includes(this.#fatalRequest);
      if (!this.#isFrozen) server.write(bytes);
    });
    server.on("data", (bytes) => {
      if (this.#isFrozen) server.pause();
      else if (isFatal) client.destroy();
      else client.write(bytes);
    });
  }

  #keep(socket: Socket, other: Socket): void {
    this.#sockets.add(socket);
    // A connection that breaks is what this is for.
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#sockets.delete(socket);
      other.destroy();
    });
  }
}
