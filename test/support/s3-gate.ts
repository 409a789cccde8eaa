import type { S3Fault } from "./s3-proxy.ts";

/** Holds a request to an S3 server where the test wants it, until the test opens it. */
export class S3Gate {
  /** Resolves when a request is held. */
  readonly reached: Promise<void>;
  readonly open: () => void;
  readonly #opened: Promise<void>;
  #reach: () => void = () => undefined;

  constructor() {
    this.reached = new Promise((resolve) => {
      this.#reach = resolve;
    });
    let open: () => void = () => undefined;
    this.#opened = new Promise((resolve) => {
      open = resolve;
    });
    this.open = open;
  }

  /** Holds a request before the server gets it. */
  readonly before: S3Fault = async (exchange) => {
    await this.#hold();
    await exchange.relay(await exchange.forward());
  };

  /** Holds a request when the server has done it, and the client does not know it yet. */
  readonly after: S3Fault = async (exchange) => {
    const answer = await exchange.forward();
    await this.#hold();
    await exchange.relay(answer);
  };

  /** Holds a request that the server never gets, and then resets its connection. */
  readonly resets: S3Fault = async (exchange) => {
    await this.#hold();
    exchange.reset();
  };

  async #hold(): Promise<void> {
    this.#reach();
    await this.#opened;
  }
}
