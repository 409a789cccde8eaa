import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { isIP, type Socket } from "node:net";
import { timerMs } from "../domain/timer-ms.ts";

/** A proxy through which origins are reached. */
export interface OutboundProxy {
  /** `http:` or `https:`, without credentials. */
  readonly url: URL;
  /** `user:password`. Default: the proxy requires none. */
  readonly credentials?: string | undefined;
  /** Hosts that are reached without it: names, `*.example.org`, addresses and CIDRs. */
  readonly exceptions: readonly string[];
}

/**
 * The failure of a proxy, not of the origin. Its message contains neither credentials nor bytes
 * that the proxy sent.
 */
export class ProxyError extends Error {
  /** True if the proxy will respond the same way the next time. */
  readonly isFinal: boolean;

  constructor(reason: string, isFinal: boolean) {
    super(reason);
    this.name = "ProxyError";
    this.isFinal = isFinal;
  }
}

/** The end of a tunnel, and the settings for opening it. */
export interface TunnelOrder {
  /** An address, so that the proxy does not resolve a name. */
  readonly address: string;
  readonly port: number;
  /** Time limit for connection, TLS and response of the proxy together, in ms. */
  readonly timeoutMs: number;
  /** Certificates of authorities trusted in addition to the usual ones. Default: none. */
  readonly authorities?: readonly string[] | undefined;
}

/**
 * Opens a tunnel through a proxy (CONNECT), to an address that was checked.
 *
 * @throws ProxyError
 */
export async function openTunnel(proxy: OutboundProxy, order: TunnelOrder): Promise<Socket> {
  const { url, credentials } = proxy;
  const host = isIP(order.address) === 6 ? `[${order.address}]` : order.address;
  const target = `${host}:${order.port}`;
  const basic =
    credentials === undefined ? undefined : `Basic ${Buffer.from(credentials).toString("base64")}`;
  const options = {
    method: "CONNECT",
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port),
    path: target,
    headers: {
      host: target,
      "user-agent": "image-import",
      ...(basic === undefined ? {} : { "proxy-authorization": basic }),
    },
    // Without the agent of the process, which may use the proxies of the environment.
    agent: false as const,
    ...(order.authorities === undefined ? {} : { ca: [...order.authorities] }),
  };
  const request = (url.protocol === "https:" ? httpsRequest : httpRequest)(options);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      request.destroy(
        new ProxyError(`it did not respond within ${order.timeoutMs / 1000} s`, false),
      );
    }, timerMs(order.timeoutMs));
    const fail = (error: Error): void => {
      clearTimeout(timer);
      reject(error instanceof ProxyError ? error : new ProxyError(error.message, false));
    };
    request.once("connect", (answer: IncomingMessage, socket: Socket, head: Buffer) => {
      clearTimeout(timer);
      const failure = failureOf(answer.statusCode ?? 0, head);
      if (failure === undefined) {
        resolve(socket);
        return;
      }
      socket.on("error", () => undefined).destroy();
      reject(failure);
    });
    request.once("error", fail);
    request.end();
  });
}

function failureOf(status: number, head: Buffer): ProxyError | undefined {
  if (status >= 200 && status < 300) {
    // The first bytes in a tunnel must come from this process.
    if (head.length === 0) return undefined;
    return new ProxyError("it sent bytes of its own into the tunnel", true);
  }
  if (status === 407) return new ProxyError("it requires other credentials (407)", true);
  if (status === 403) return new ProxyError("it does not allow this connection (403)", true);
  return new ProxyError(`it returned ${status} to CONNECT`, status < 500 && status !== 429);
}
