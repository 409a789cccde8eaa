import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A token that the double knows, in the words of Keystone's document. */
export interface KnownToken {
  readonly user: string;
  readonly project?: string;
  readonly roles: readonly string[];
  readonly expiresAt?: string;
  readonly accessRules?: readonly object[];
}

/**
 * Answers `GET /v3/auth/tokens` as Keystone 30 does: a bad token that validates itself gets 401,
 * one that a service validates gets 404, and access rules need their header.
 */
export class KeystoneDouble implements AsyncDisposable {
  /** By token. */
  readonly tokens = new Map<string, KnownToken>();
  /** The requests so far, each with its query. */
  readonly asked: { readonly subject: string; readonly by: string; readonly query: string }[] = [];
  /** The image services of its catalogue. */
  readonly endpoints: {
    readonly interface: string;
    readonly region: string;
    readonly url: string;
  }[] = [];
  /** Answers every request with this status. Default: it does not. */
  brokenStatus: number | undefined;
  /** Answers to tokens wait for it. */
  gate: Promise<void> = Promise.resolve();
  readonly #server = createServer((request, response) => {
    this.#answer(request, response);
  });

  /** The address for `api.keystone.url`. */
  url = "";

  /** Listens on loopback. */
  static async open(): Promise<KeystoneDouble> {
    const double = new KeystoneDouble();
    double.#server.listen(0, "127.0.0.1");
    await once(double.#server, "listening");
    double.url = `http://127.0.0.1:${String((double.#server.address() as AddressInfo).port)}/v3`;
    return double;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "/", "http://keystone");
    if (url.pathname === "/v3/auth/catalog") {
      this.#answerCatalogue(request, response);
      return;
    }
    const subject = String(request.headers["x-subject-token"]);
    const by = String(request.headers["x-auth-token"]);
    this.asked.push({ subject, by, query: url.search });
    void this.gate.then(() => {
      this.#answerToken(response, this.#statusFor(request, url, subject, by), subject);
    });
  }

  #answerToken(response: ServerResponse, status: number, subject: string): void {
    if (status !== 200) {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: { code: status, title: "Refused", message: "" } }));
      return;
    }
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify(documentOf(this.tokens.get(subject))));
  }

  #answerCatalogue(request: IncomingMessage, response: ServerResponse): void {
    const isKnown = this.tokens.has(String(request.headers["x-auth-token"]));
    response.writeHead(this.brokenStatus ?? (isKnown ? 200 : 401));
    const endpoints = this.endpoints.map((each) => ({ ...each, region_id: each.region }));
    const others = [{ interface: "public", region: "West", region_id: "West", url: "http://no" }];
    response.end(
      JSON.stringify({
        catalog: [
          { type: "compute", endpoints: others },
          { type: "image", endpoints },
        ],
      }),
    );
  }

  #statusFor(request: IncomingMessage, url: URL, subject: string, by: string): number {
    if (this.brokenStatus !== undefined) return this.brokenStatus;
    if (url.pathname !== "/v3/auth/tokens") return 404;
    const asker = this.tokens.get(by);
    if (asker === undefined || isExpired(asker)) return 401;
    if (by !== subject && !asker.roles.includes("service")) return 403;
    const token = this.tokens.get(subject);
    if (token === undefined) return 404;
    if (isExpired(token) && url.searchParams.get("allow_expired") !== "1") return 404;
    const understandsRules = request.headers["openstack-identity-access-rules"] !== undefined;
    return token.accessRules !== undefined && !understandsRules ? 404 : 200;
  }
}

function isExpired({ expiresAt }: KnownToken): boolean {
  return expiresAt !== undefined && Date.parse(expiresAt) <= Date.now();
}

function documentOf(token: KnownToken | undefined): object {
  if (token === undefined) return {};
  const { user, project, roles, expiresAt, accessRules } = token;
  const domain = { id: "default", name: "Default" };
  return {
    token: {
      methods: ["password"],
      expires_at: expiresAt ?? new Date(Date.now() + 3_600_000).toISOString(),
      issued_at: new Date().toISOString(),
      user: { id: user, name: user, domain },
      ...(project === undefined ? {} : { project: { id: project, name: project, domain } }),
      roles: roles.map((name) => ({ id: name, name })),
      ...(accessRules === undefined
        ? {}
        : { application_credential: { id: "c", name: "c", access_rules: accessRules } }),
    },
  };
}
