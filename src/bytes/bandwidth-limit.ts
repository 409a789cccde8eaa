import { timerMs } from "../domain/timer-ms.ts";

interface Waiter {
  readonly bytes: number;
  grant(): void;
}

/**
 * A rate that several transfers share: a token bucket that holds at most one second's worth.
 * Requests are served in the order in which they come, so that transfers which ask block by block
 * get equal shares.
 */
export class BandwidthLimit {
  readonly bytesPerSecond: number;
  readonly #waiting: Waiter[] = [];
  #availableBytes: number;
  #filledAtMs = performance.now();
  #timer: NodeJS.Timeout | undefined;

  /** @throws RangeError when the rate is not a positive number */
  constructor(bytesPerSecond: number) {
    if (!(bytesPerSecond > 0 && Number.isFinite(bytesPerSecond))) {
      throw new RangeError(
        `Cannot limit the bandwidth to ${bytesPerSecond} bytes/s: it must be above 0`,
      );
    }
    this.bytesPerSecond = bytesPerSecond;
    this.#availableBytes = bytesPerSecond;
  }

  /**
   * Waits until `bytes` may be moved. A request for more than one second's worth passes when the
   * bucket is full, and the requests after it wait until that debt is paid.
   *
   * @throws the signal's reason when it is aborted; nothing is taken then
   */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        bytes,
        grant: () => {
          signal?.removeEventListener("abort", leave);
          resolve();
        },
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        this.#serve();
        // The owner of the signal chose the reason; it is passed on as it is.
        reject(signal?.reason as Error);
      };
      signal?.addEventListener("abort", leave, { once: true });
      this.#waiting.push(waiter);
      this.#serve();
    });
  }

  #serve(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#fill();
    for (let head = this.#waiting[0]; head !== undefined; head = this.#waiting[0]) {
      const missingBytes = Math.min(head.bytes, this.bytesPerSecond) - this.#availableBytes;
      if (missingBytes > 0) {
        this.#serveAfter(missingBytes);
        return;
      }
      this.#availableBytes -= head.bytes;
      this.#waiting.shift();
      head.grant();
    }
  }

  #fill(): void {
    const nowMs = performance.now();
    const gainedBytes = ((nowMs - this.#filledAtMs) / 1000) * this.bytesPerSecond;
    this.#availableBytes = Math.min(this.bytesPerSecond, this.#availableBytes + gainedBytes);
    this.#filledAtMs = nowMs;
  }

  #serveAfter(missingBytes: number): void {
    // Rounded up: timers would spin through the last fraction of a millisecond.
    const waitMs = Math.ceil((missingBytes / this.bytesPerSecond) * 1000);
    this.#timer = setTimeout(
      () => {
        this.#serve();
      },
      // A longer wait is cut into pieces.
      timerMs(waitMs),
    );
  }
}
