/** @typedef {import("../../src/stores/store.ts").CopyOrder} CopyOrder */
/** @typedef {import("../../src/stores/store.ts").Store} Store */

/** A copy has written its first bytes when it asks for these: it reads one block ahead. */
const HELD_FROM = 2 * 1024 * 1024;

/**
 * Holds the copies into one store of this process in the middle of their bytes. A copy reads the
 * first 2 MiB of its source, and waits for the next ones until the test releases it or the copy is
 * cancelled. So the source must have more than 2 MiB, and be copied byte by byte.
 */
export class HeldCopies {
  /** @type {PromiseWithResolvers} */
  #reached = withResolvers();
  /** @type {PromiseWithResolvers} */
  #released = withResolvers();

  /**
   * Holds all copies into the store of that name that begin from now on.
   *
   * @param {{ get(name: string): Store }} stores
   * @param {string} name
   */
  static in(stores, name) {
    const held = new HeldCopies();
    const get = stores.get.bind(stores);
    stores.get = (each) => (each === name ? held.#around(get(each)) : get(each));
    return held;
  }

  /** Resolves when a copy waits. */
  get reached() {
    return this.#reached.promise;
  }

  /** Lets the copies that wait continue, and later ones pass. */
  release() {
    this.#released.resolve();
  }

  /** @param {Store} store @returns {Store} */
  #around(store) {
    const copy = async (/** @type {CopyOrder} */ order) =>
      store.copy({ ...order, source: this.#heldSource(order) });
    return new Proxy(store, {
      get: (_, name) => {
        if (name === "copy") return copy;
        /** @type {unknown} */
        const member = Reflect.get(store, name, store);
        // Its private fields are those of the store, not of the proxy.
        return typeof member === "function" ? member.bind(store) : member;
      },
    });
  }

  /** @param {CopyOrder} order @returns {CopyOrder["source"]} */
  #heldSource({ source, signal }) {
    return {
      place: source.place,
      read: async (buffer, offset, length, position) => {
        if (position >= HELD_FROM) await this.#wait(signal);
        return source.read(buffer, offset, length, position);
      },
    };
  }

  /** @param {AbortSignal} signal */
  async #wait(signal) {
    this.#reached.resolve();
    signal.throwIfAborted();
    const cancelled = withResolvers();
    signal.addEventListener("abort", cancelled.resolve, { once: true });
    await Promise.race([this.#released.promise, cancelled.promise]);
    signal.removeEventListener("abort", cancelled.resolve);
    // A cancelled copy must not write the held bytes: the next attempt would find them, and pass.
    signal.throwIfAborted();
  }
}

/** @typedef {{ promise: Promise<void>, resolve: () => void }} PromiseWithResolvers */

/** As in later versions of Node. @returns {PromiseWithResolvers} */
function withResolvers() {
  /** @type {() => void} */
  let resolve = () => undefined;
  /** @type {Promise<void>} */
  const promise = new Promise((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
