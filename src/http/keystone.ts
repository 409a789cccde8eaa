import { readFile } from "node:fs/promises";
import { rootCertificates } from "node:tls";
import { Agent, request } from "undici";
import { z } from "zod";
import type { KeystoneSettings } from "../config/api-settings.ts";
import { ImportError } from "../domain/import-failure.ts";
import { callerOf, type Caller } from "./caller.ts";
import { HttpFailure } from "./http-failure.ts";
import { KeptAnswers } from "./kept-answers.ts";
import {
  digestOf,
  headerOf,
  type Credentials,
  type Identity,
  type ServicePlace,
} from "./identity.ts";

// A refusal is kept for a shorter time than an acceptance: the token may be valid in a moment.
const REFUSAL_MS = 10_000;
// Refusals have a limit of their own: any caller can send any number of invalid tokens, and these
// must not displace the valid ones.
const MOST_KEPT = { accepted: 10_000, refused: 1_000 };
const PATIENCE_MS = 10_000;

const accessRule = z.object({ service: z.string(), method: z.string(), path: z.string() });

const tokenDocument = z.object({
  token: z.object({
    expires_at: z.string(),
    user: z.object({ id: z.string() }),
    project: z.object({ id: z.string() }).optional(),
    roles: z.array(z.object({ name: z.string() })).default([]),
    application_credential: z.object({ access_rules: z.array(accessRule).optional() }).nullish(),
  }),
});

const catalogue = z.object({
  catalog: z.array(
    z.object({
      type: z.string(),
      endpoints: z.array(
        z.object({
          interface: z.string(),
          region: z.string().nullish(),
          region_id: z.string().nullish(),
          url: z.string(),
        }),
      ),
    }),
  ),
});

/** A token that Keystone knows. */
interface Validated {
  readonly caller: Caller;
  readonly expiresAtMs: number;
  /** The requests that an application credential is restricted to; undefined: all are allowed. */
  readonly rules: readonly z.output<typeof accessRule>[] | undefined;
}

/** Mode `keystone`: callers send a token of OpenStack's identity service, which validates it. */
export class Keystone implements Identity {
  readonly challenge: string;
  readonly #settings: KeystoneSettings;
  readonly #agent: Agent;
  readonly #accepted: KeptAnswers<Validated>;
  readonly #refused: KeptAnswers<true>;
  /** Requests that run: those with the same token share one. */
  readonly #running = new Map<string, Promise<Validated | undefined>>();

  private constructor(
    settings: KeystoneSettings,
    authorities: string | undefined,
    most: typeof MOST_KEPT,
  ) {
    this.#settings = settings;
    this.#accepted = new KeptAnswers(most.accepted);
    this.#refused = new KeptAnswers(most.refused);
    this.challenge = `Keystone uri="${settings.url}"`;
    const ca = authorities === undefined ? undefined : [...rootCertificates, authorities];
    this.#agent = new Agent({
      connect: ca === undefined ? {} : { ca },
      headersTimeout: PATIENCE_MS,
    });
  }

  /**
   * @param most - the numbers of answers to keep
   * @throws ImportError `BadConfiguration` for certificates that cannot be read
   */
  static async open(settings: KeystoneSettings, most = MOST_KEPT): Promise<Keystone> {
    const { caFile } = settings;
    if (caFile === undefined) return new Keystone(settings, undefined, most);
    const authorities = await readFile(caFile, "utf8").catch((cause: unknown) => {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new ImportError(
        "BadConfiguration",
        `Cannot read the file "${caFile}" of \`api.keystone.ca_file\`: ${reason}`,
        { cause, hint: "Set it to a PEM file that the API may read." },
      );
    });
    return new Keystone(settings, authorities, most);
  }

  async identify({ headers, method, path }: Credentials): Promise<Caller> {
    const token = headerOf(headers, "x-auth-token");
    if (token === undefined) throw this.#refusal("This request needs a token");
    const service = await this.#serviceToken(headers);
    const validated = await this.#validated(token, service);
    if (validated === undefined) throw this.#refusal("The token is not valid");
    const { rules, caller } = validated;
    if (rules !== undefined && !rules.some((rule) => allows(rule, method, path))) {
      throw this.#refusal("The access rules of the application credential do not allow this");
    }
    if (service === undefined) return caller;
    return { ...caller, roles: new Set([...caller.roles, "service"]) };
  }

  async imageEndpoint(
    { region, serviceInterface }: ServicePlace,
    headers: Credentials["headers"],
  ): Promise<string | undefined> {
    const token = headerOf(headers, "x-auth-token") ?? "";
    const answer = await this.#get("/auth/catalog", { "x-auth-token": token });
    if (answer === undefined) return undefined;
    const document = catalogue.safeParse(answer);
    if (!document.success) throw unreachable(document.error);
    return document.data.catalog
      .filter(({ type }) => type === "image")
      .flatMap(({ endpoints }) => endpoints)
      .find(
        (each) => each.interface === serviceInterface && (each.region_id ?? each.region) === region,
      )?.url;
  }

  async close(): Promise<void> {
    await this.#agent.close();
  }

  /**
   * The token of a service that sends the request for a user. With it, a token of the user that
   * expired while the service worked is still valid.
   */
  async #serviceToken(headers: Credentials["headers"]): Promise<string | undefined> {
    const token = headerOf(headers, "x-service-token");
    if (token === undefined) return undefined;
    const validated = await this.#validated(token, undefined);
    return validated?.caller.roles.has("service") === true ? token : undefined;
  }

  /** @returns undefined if Keystone refuses the token */
  async #validated(token: string, service: string | undefined): Promise<Validated | undefined> {
    const key = `${digestOf(token)} ${service === undefined ? "" : digestOf(service)}`;
    const known = this.#accepted.find(key);
    if (known !== undefined) {
      const isCurrent = service !== undefined || known.expiresAtMs > Date.now();
      return isCurrent ? known : undefined;
    }
    if (this.#refused.find(key) === true) return undefined;
    return this.#running.get(key) ?? this.#askOnce(key, token, service);
  }

  /** Asks Keystone, and keeps the answer. A failure is not kept. */
  async #askOnce(
    key: string,
    token: string,
    service: string | undefined,
  ): Promise<Validated | undefined> {
    const askedAtMs = performance.now();
    const asked = this.#ask(token, service);
    this.#running.set(key, asked);
    try {
      const found = await asked;
      const { cacheMs } = this.#settings;
      if (found !== undefined) this.#accepted.keep(key, found, askedAtMs + cacheMs);
      else this.#refused.keep(key, true, askedAtMs + Math.min(REFUSAL_MS, cacheMs));
      return found;
    } finally {
      this.#running.delete(key);
    }
  }

  /**
   * Asks Keystone. A token may validate itself; a service's token also validates expired tokens.
   */
  async #ask(token: string, service: string | undefined): Promise<Validated | undefined> {
    const query = service === undefined ? "?nocatalog" : "?nocatalog&allow_expired=1";
    const answer = await this.#get(`/auth/tokens${query}`, {
      "x-auth-token": service ?? token,
      "x-subject-token": token,
    });
    if (answer === undefined) return undefined;
    const document = tokenDocument.safeParse(answer);
    if (!document.success) throw unreachable(document.error);
    return validatedOf(document.data);
  }

  /** @returns undefined if Keystone refuses */
  async #get(path: string, tokens: Readonly<Record<string, string>>): Promise<unknown> {
    const answer = await request(`${this.#settings.url}${path}`, {
      dispatcher: this.#agent,
      headers: {
        ...tokens,
        // Without it Keystone refuses tokens that have access rules.
        "openstack-identity-access-rules": "1.0",
        accept: "application/json",
      },
      signal: AbortSignal.timeout(PATIENCE_MS),
    }).catch((error: unknown) => {
      throw unreachable(error);
    });
    // A token that validates itself and is bad, expired or revoked gets 401; one that a service
    // validates gets 404.
    if ([400, 401, 403, 404].includes(answer.statusCode)) {
      await answer.body.dump();
      return undefined;
    }
    if (answer.statusCode !== 200) {
      await answer.body.dump();
      throw unreachable(new Error(`It answered ${String(answer.statusCode)}`));
    }
    return answer.body.json().catch((error: unknown) => {
      throw unreachable(error);
    });
  }

  #refusal(reason: string): HttpFailure {
    return new HttpFailure(401, `${reason}.`, { headers: { "www-authenticate": this.challenge } });
  }
}

function unreachable(cause: unknown): HttpFailure {
  return new HttpFailure(503, "The identity service does not answer.", {
    cause,
    headers: { "retry-after": "5" },
  });
}

function validatedOf({ token }: z.output<typeof tokenDocument>): Validated {
  const roles = token.roles.map(({ name }) => name);
  return {
    // Roles on the system or on a domain give no rights to images, as in Glance.
    caller: callerOf(
      token.user.id,
      token.project?.id ?? null,
      token.project === undefined ? [] : roles,
    ),
    expiresAtMs: Date.parse(token.expires_at),
    rules: token.application_credential?.access_rules,
  };
}

/** True if an access rule allows this: `*` is any segment, `**` any rest, `{name}` any segment. */
function allows(rule: z.output<typeof accessRule>, method: string, path: string): boolean {
  if (rule.service !== "image" || rule.method.toUpperCase() !== method) return false;
  // For each position of the path: true if the pattern up to here matches the path up to there.
  // Users write patterns. This match costs at most the length of the pattern times that of the
  // path.
  let reached = Array.from({ length: path.length + 1 }, (_, position) => position === 0);
  for (const part of rule.path.split(/(\*\*|\*|\{[^}]*\})/).filter((each) => each !== "")) {
    reached = reachedBehind(part, path, reached);
  }
  return reached[path.length] === true;
}

function reachedBehind(part: string, path: string, reached: readonly boolean[]): boolean[] {
  if (part === "**") {
    const first = reached.indexOf(true);
    return reached.map((_, position) => first >= 0 && position >= first);
  }
  if (part === "*" || part.startsWith("{")) {
    let isOpen = false;
    return reached.map((_, position) => {
      if (position === 0) return false;
      isOpen = path[position - 1] !== "/" && (isOpen || reached[position - 1] === true);
      return isOpen;
    });
  }
  return reached.map((_, position) => {
    const from = position - part.length;
    return from >= 0 && reached[from] === true && path.startsWith(part, from);
  });
}
