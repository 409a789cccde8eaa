import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { onTestFinished, vi } from "vitest";
import { PATIENCE } from "./patience.ts";

/** As much of a request as its first line may take. */
const LINE_BYTES = 256;

/** Stands between a client and a server, and fails as networks do; ends with the running test. */
export class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isFrozen = false;
  #fatalRequest: string | undefined;
  #target: URL;
  #largestAnswer = Infinity;
  #largestRequest = Infinity;
  #cutsLeft = 0;
  #frozenAfter = Infinity;
  #requests = "";
  /** The bytes that clients have sent, of all connections. */
  sentBytes = 0;

  private constructor(target: URL) {
    this.#target = target;
    this.#server = createServer((client) => {
      this.#relay(client, connect(Number(this.#target.port), this.#target.hostname));
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

  /** New connections lead to the server of this address. */
  leadTo(address: string): void {
    this.#target = new URL(address);
  }

  /** Ends connections on which the server has sent this many bytes; this often. */
  cutAnswersAfter(largestBytes: number, times: number): void {
    this.#largestAnswer = largestBytes;
    this.#cutsLeft = times;
  }

  /** Ends connections on which the client has sent this many bytes; this often. */
  cutRequestsAfter(largestBytes: number, times: number): void {
    this.#largestRequest = largestBytes;
    this.#cutsLeft = times;
  }

  /** Freezes once clients have sent this many bytes; the promise is fulfilled then. */
  async freezeAfter(sentBytes: number): Promise<void> {
    this.#frozenAfter = sentBytes;
    await vi.waitUntil(() => this.#isFrozen, PATIENCE);
  }

  /** Waits until a client has sent a request with this text in its first line. */
  async reached(text: string): Promise<void> {
    await vi.waitUntil(() => this.#requests.includes(text), PATIENCE);
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
    let requestBytes = 0;
    let answerBytes = 0;
    client.on("data", (bytes) => {
      this.sentBytes += bytes.length;
      this.#requests += bytes.subarray(0, LINE_BYTES).toString("latin1");
      requestBytes += bytes.length;
      if (this.sentBytes > this.#frozenAfter) {
        this.#frozenAfter = Infinity;
        this.freeze();
      }
      if (requestBytes > this.#largestRequest && this.#cutsLeft > 0) {
        this.#cutsLeft -= 1;
        client.destroy();
        return;
      }
      isFatal ||= this.#fatalRequest !== undefined && bytes.includes(this.#fatalRequest);
      // No more is on the way than a network would hold.
      if (this.#isFrozen || !server.write(bytes)) client.pause();
    });
    server.on("drain", () => {
      if (!this.#isFrozen) client.resume();
    });
    server.on("data", (bytes) => {
      if (this.#isFrozen) server.pause();
      else if (isFatal) client.destroy();
      else client.write(bytes.subarray(0, this.#cutsLeft > 0 ? this.#largestAnswer : undefined));
      answerBytes += bytes.length;
      if (answerBytes <= this.#largestAnswer || this.#cutsLeft === 0) return;
      this.#cutsLeft -= 1;
      client.end();
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
