import { once } from "node:events";
import { connect, type Socket } from "node:net";

/** Sends these texts over one connection, and returns everything that comes back until it ends. */
export async function exchange(
  url: string,
  texts: readonly (string | Buffer)[],
  { endsAfterAnswer = true }: { readonly endsAfterAnswer?: boolean } = {},
): Promise<string> {
  const socket = await open(url);
  let received = "";
  const isAnswered = new Promise<void>((resolve) => {
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
      if (endsAfterAnswer && received.includes("\r\n\r\n")) resolve();
    });
    socket.once("close", () => {
      resolve();
    });
  });
  for (const text of texts) socket.write(text);
  await isAnswered;
  socket.destroy();
  return received;
}

/** A connection to a server; errors of it are its own business. */
export async function open(url: string): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => undefined);
  await once(socket, "connect");
  return socket;
}

/** The status of the first answer in a text. */
export function statusIn(answer: string): number {
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0);
}
