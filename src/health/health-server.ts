import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { hostname } from "node:os";
import { hasErrorCode } from "../bytes/system-error.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { ListenAddress } from "../domain/listen-address.ts";
import { answerHealth } from "./answer-health.ts";
import type { Health } from "./health.ts";

/** A server of `/livez` and `/readyz` for a program that has no other server. */
export class HealthServer implements AsyncDisposable {
  /** The URL under which other programs reach it, without a path. */
  readonly url: string;
  readonly #server: Server;

  private constructor(server: Server, host: string) {
    this.#server = server;
    this.url = urlOf(host, (server.address() as AddressInfo).port);
  }

  /**
   * Opens a server, and listens.
   *
   * @throws ImportError `BadConfiguration` if the address cannot be used
   */
  static async open(health: Health, { host, port }: ListenAddress): Promise<HealthServer> {
    const server = createServer((request, response) => {
      if (!answerHealth(health, request, response)) response.writeHead(404).end();
    });
    server.listen({ host, port });
    try {
      await once(server, "listening");
    } catch (error) {
      throw cannotListen("health", { host, port }, error);
    }
    // The server reports here a connection that it cannot accept, for example without a free file
    // descriptor. Without a listener the error would end this program.
    server.on("error", () => undefined);
    return new HealthServer(server, host);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}

/**
 * The failure of a server that cannot listen.
 *
 * @param section - the section of the configuration that names the address
 */
export function cannotListen(
  section: string,
  { host, port }: ListenAddress,
  cause: unknown,
): ImportError {
  const isInUse =
    hasErrorCode(cause, "EADDRINUSE") || /address already in use/i.test(String(cause));
  const reason = cause instanceof Error ? cause.message : String(cause);
  const why = isInUse ? "another program uses this port" : reason;
  return new ImportError(
    "BadConfiguration",
    `Cannot listen on ${host}:${String(port)} (${section}.host, ${section}.port): ${why}`,
    {
      cause,
      hint: isInUse
        ? `Choose another port with ${section}.port or --${section}-port; 0 takes any free one.`
        : `Correct ${section}.host, or choose another port with ${section}.port.`,
    },
  );
}

/**
 * The URL under which other programs reach a server. It has the name of this host if the server
 * listens on all addresses.
 */
export function urlOf(host: string, port: number): string {
  const name = host === "0.0.0.0" || host === "::" ? hostname() : host;
  return `http://${name.includes(":") ? `[${name}]` : name}:${String(port)}`;
}
