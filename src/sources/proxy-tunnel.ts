import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { isIP, type Socket } from "node:net";

/** A proxy through which origins are reached. */
export interface OutboundProxy {
  /** `http:` or `https:`, without credentials. */
  readonly url: URL;
  /** `user:password`. Default: the proxy wants none. */
  readonly credentials?: string | undefined;
  /** Hosts that are reached without it: names, `*.example.org`, addresses and CIDRs. */
  readonly exceptions: readonly string[];
}

/**
 * The failure of a proxy, not of the origin behind it. Its message holds neither credentials nor
 * what the proxy sent.
 */
export class ProxyError extends Error {
  /** Whether the proxy will answer the same the next time. */
  readonly isFinal: boolean;

  constructor(reason: string, isFinal: boolean) {
    super(reason);
    this.name = "ProxyError";
    this.isFinal = isFinal;
  }
}

/** The end of a tunnel. */
export interface TunnelOrder {
  /** An address, so that the proxy has no name to resolve. */
  readonly address: string;
  readonly port: number;
  /** For connection, TLS and answer of the proxy together, in ms. */
  readonly timeoutMs: number;
  /** Certificates of authorities that are trusted beside the usual ones. Default: none. */
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
    // Not the agent of the process, which may ask the proxies of the environment.
    agent: false as const,
    ...(order.authorities === undefined ? {} : { ca: [...order.authorities] }),
  };
  const request = (url.protocol === "https:" ? httpsRequest : httpRequest)(options);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      request.destroy(new ProxyError(`it gave no answer in ${order.timeoutMs / 1000} s`, false));
    }, order.timeoutMs);
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
    // A proxy that answers CONNECT with 1xx or an upgrade is none.
    request.once("response", (answer: IncomingMessage) => {
      answer.destroy();
      fail(new ProxyError(`it answered ${answer.statusCode ?? 0} to CONNECT`, true));
    });
    request.once("error", fail);
    request.end();
  });
}

function failureOf(status: number, head: Buffer): ProxyError | undefined {
  if (status >= 200 && status < 300) {
    // Both sides of a tunnel wait for us to begin.
    if (head.length === 0) return undefined;
    return new ProxyError("it sent bytes of its own into the tunnel", true);
  }
  if (status === 407) return new ProxyError("it wants other credentials (407)", true);
  if (status === 403) return new ProxyError("it does not let this through (403)", true);
  return new ProxyError(`it answered ${status} to CONNECT`, status < 500 && status !== 429);
}
