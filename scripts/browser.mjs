import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

const PATIENCE_MS = 60_000;
// After the text is there, the details are rendered in frames of their own, and transitions settle.
const SETTLE_MS = 4_000;

/** A headless Chromium, steered over a pipe in its DevTools protocol. */
export class Browser {
  #chromium;
  #received = "";
  #lastId = 0;
  /** @type {Map<number, (answer: any) => void>} */
  #waiting = new Map();

  /** @param {string} program @param {string} profile - a directory for its files */
  constructor(program, profile) {
    const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"];
    const args = [...flags, `--user-data-dir=${profile}`, "--remote-debugging-pipe"];
    this.#chromium = spawn(program, args, {
      stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    });
    /** @type {import("node:stream").Readable} */ (this.#chromium.stdio[4]).on("data", (data) => {
      this.#receive(String(data));
    });
  }

  /**
   * A picture of a page, as PNG, once the page has a text.
   *
   * @param {string} url
   * @param {{ width: number, height: number, text: string }} page - size in CSS pixels
   */
  async picture(url, { width, height, text }) {
    const { targetId } = await this.#send("Target.createTarget", { url });
    const { sessionId } = await this.#send("Target.attachToTarget", { targetId, flatten: true });
    const size = { width, height, deviceScaleFactor: 1, mobile: false };
    await this.#send("Emulation.setDeviceMetricsOverride", size, sessionId);
    await this.#untilShown(text, sessionId);
    await sleep(SETTLE_MS);
    const { data } = await this.#send("Page.captureScreenshot", { format: "png" }, sessionId);
    await this.#send("Target.closeTarget", { targetId });
    return Buffer.from(data, "base64");
  }

  async close() {
    this.#chromium.kill();
    if (this.#chromium.exitCode === null) await once(this.#chromium, "exit");
  }

  /** @param {string} text @param {string} sessionId */
  async #untilShown(text, sessionId) {
    const expression = `document.body.innerText.includes(${JSON.stringify(text)})`;
    const until = Date.now() + PATIENCE_MS;
    for (;;) {
      const { result } = await this.#send("Runtime.evaluate", { expression }, sessionId);
      if (result?.value === true) return;
      if (Date.now() > until) throw new Error(`Cannot find "${text}" in the page`);
      await sleep(100);
    }
  }

  /** @param {string} method @param {object} params @param {string} [sessionId] */
  async #send(method, params, sessionId) {
    this.#lastId += 1;
    const message = { id: this.#lastId, method, params, ...(sessionId && { sessionId }) };
    const pipe = /** @type {import("node:stream").Writable} */ (this.#chromium.stdio[3]);
    /** @type {Promise<any>} */
    const answered = new Promise((resolve) => {
      this.#waiting.set(message.id, resolve);
    });
    pipe.write(`${JSON.stringify(message)}\0`);
    const { result, error } = await answered;
    if (error) throw new Error(`Cannot run ${method}: ${error.message}`);
    return result;
  }

  /** @param {string} data */
  #receive(data) {
    const messages = (this.#received + data).split("\0");
    this.#received = messages.pop() ?? "";
    for (const message of messages) {
      const answer = JSON.parse(message);
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    }
  }
}
