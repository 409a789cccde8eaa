import { connect, createServer } from "node:net";
import { once } from "node:events";

// A slow network between clients and a server on 127.0.0.1, as a process of its own:
// `node far-network.mjs PORT DELAY_MS WINDOW_BYTES`. Every byte takes the delay in each direction.
// A connection takes a round trip to open. As with TCP, at most WINDOW_BYTES of it are sent and not
// yet acknowledged. Nothing is lost, and connections do not share a link. The process writes the
// port of the network to stdout.

/** @typedef {import("node:net").Socket} Socket */

const [port, delay, window] = process.argv.slice(2).map(Number);
const delayMs = delay ?? 0;
const windowBytes = window ?? Infinity;

const server = createServer({ noDelay: true }, (client) => {
  const far = connect({ port: port ?? 0, host: "127.0.0.1", noDelay: true });
  // A connection opens after the answer to its first packet.
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
    // Timers of one duration end in their order. Bytes are acknowledged once the receiver has taken
    // them.
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
