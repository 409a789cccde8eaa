import { once } from "node:events";
import { connect, createServer } from "node:net";

/** @typedef {import("node:net").Socket} Socket */

/** A proxy between clients and the API that lets a number of bytes of the clients through. */
export class Gate {
  /** Bytes of clients that went through, over all connections. */
  passedBytes = 0;
  #allowedBytes;
  #server;
  /** @type {Set<Socket>} */
  #sockets = new Set();
  /** @type {Set<Socket>} */
  #waiting = new Set();
  #port = 0;

  /** @param {URL} target @param {number} allowedBytes */
  constructor(target, allowedBytes) {
    this.#allowedBytes = allowedBytes;
    this.#server = createServer((client) => {
      this.#relay(client, connect(Number(target.port), target.hostname));
    });
  }

  /**
   * Opens a gate before the server of this address. @param {string} address @param {number}
   * allowedBytes
   */
  static async open(address, allowedBytes) {
    const gate = new Gate(new URL(address), allowedBytes);
    gate.#server.listen(0, "127.0.0.1");
    await once(gate.#server, "listening");
    const where = gate.#server.address();
    if (where !== null && typeof where === "object") gate.#port = where.port;
    return gate;
  }

  get url() {
    return `http://127.0.0.1:${String(this.#port)}`;
  }

  /** True once a client waits before the gate. */
  get isReached() {
    return this.passedBytes >= this.#allowedBytes;
  }

  /** Lets everything through from here on. */
  letAllThrough() {
    this.#allowedBytes = Infinity;
    for (const client of this.#waiting) client.resume();
    this.#waiting.clear();
  }

  /** Ends all connections. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  close() {
    this.#server.close();
    this.cut();
  }

  /** @param {Socket} client @param {Socket} server */
  #relay(client, server) {
    this.#join(client, server);
    this.#join(server, client);
    client.on("data", (bytes) => {
      this.passedBytes += bytes.length;
      const isFull = !server.write(bytes);
      // Only the bytes of the image wait: short requests still get through to the API.
      if (this.isReached && bytes.length > LONGEST_QUESTION) this.#hold(client);
      else if (isFull) client.pause();
    });
    server.on("drain", () => {
      if (!this.#waiting.has(client)) client.resume();
    });
    server.on("data", (bytes) => {
      if (!client.write(bytes)) server.pause();
    });
    client.on("drain", () => server.resume());
  }

  /** @param {Socket} client */
  #hold(client) {
    client.pause();
    this.#waiting.add(client);
  }

  /** @param {Socket} socket @param {Socket} other */
  #join(socket, other) {
    this.#sockets.add(socket);
    // Connections are broken on purpose.
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.#sockets.delete(socket);
      this.#waiting.delete(socket);
      other.destroy();
    });
  }
}

const LONGEST_QUESTION = 4096;
