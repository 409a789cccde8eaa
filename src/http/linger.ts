import type { IncomingMessage, ServerResponse } from "node:http";

// As nginx does: the rest of a refused body is read and dropped for a while. If the connection were
// closed at once, many clients would report a broken connection and not the answer.
const LINGER_MS = 5_000;

/** Drops the unread rest of a body after the answer. After 5 s it drops the connection, too. */
export function linger(request: IncomingMessage, response: ServerResponse): void {
  const { socket } = request;
  request.on("error", () => undefined);
  response.once("finish", () => {
    request.resume();
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    request.once("end", () => {
      clearTimeout(timer);
    });
    socket.once("close", () => {
      clearTimeout(timer);
    });
  });
}
