import { connect, createServer } from "node:net";
import { once } from "node:events";

// Run as a process of its own: a network between clients and a server on 127.0.0.1.
// `node far-network.mjs PORT DELAY_MS WINDOW_BYTES`: every byte takes the delay in each direction,
// a connection takes a round trip to open, and has at most the window on the way or not yet
// acknowledged, as TCP has. Nothing is lost, and connections do not share a link. It writes its
// own port to stdout.

/** @typedef {import("node:net").Socket} Socket */

const [port, delay, window] = process.argv.slice(2).map(Number);
const delayMs = delay ?? 0;
const windowBytes = window ?? Infinity;

const server = createServer({ noDelay: true }, (client) => {
  const far = connect({ port: port ?? 0, host: "127.0.0.1", noDelay: true });
  // The answer to the first packet of a connection.
  client.pause();
  setTimeout(() => client.resume(), 2 * delayMs);
  carry(client, far);
  carry(far, client);
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
const address = server.address();
if (address === null || typeof address === "string") throw new Error("There is no port");
process.stdout.write(`${address.port}\n`);

/**
 * Carries bytes from one end of a connection to the other. @param {Socket} from @param {Socket} to
 */
function carry(from, to) {
  let onTheWayBytes = 0;
  from.on("data", (bytes) => {
    onTheWayBytes += bytes.length;
    if (onTheWayBytes >= windowBytes) from.pause();
    const acknowledge = () => {
      onTheWayBytes -= bytes.length;
      if (onTheWayBytes < windowBytes) from.resume();
    };
    // Timers of one duration end in their order. A receiver that takes nothing acknowledges
    // nothing.
    setTimeout(() => {
      if (!to.destroyed) to.write(bytes, () => setTimeout(acknowledge, delayMs));
    }, delayMs);
  });
  from.on("end", () => setTimeout(() => to.end(), delayMs));
  from.on("error", () => undefined);
  from.on("close", () =>
    setTimeout(() => {
      to.destroySoon();
    }, delayMs),
  );
}
