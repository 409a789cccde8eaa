import { readFile, stat } from "node:fs/promises";
import { parse } from "yaml";
import { z } from "zod";
import { ImportError } from "../domain/import-failure.ts";
import { callerOf, type Caller } from "./caller.ts";
import { HttpFailure } from "./http-failure.ts";
import { credentialsIn, digestOf, type Credentials, type Identity } from "./identity.ts";

const LOOK_EVERY_MS = 1_000;

/** The file of tokens. Its tokens are random, so that a plain digest hides them. */
const tokenFile = z.strictObject({
  tokens: z.array(
    z.strictObject({
      /** `sha256:` and the digest of the token in hex. */
      digest: z.string().regex(/^sha256:[0-9a-f]{64}$/, "must be sha256: and 64 hex digits"),
      user: z.string().min(1),
      project: z.string().min(1),
      roles: z.array(z.string().min(1)).min(1),
      /** After this time the token is refused. Default: never. */
      expires: z.iso.datetime({ offset: true }).optional(),
    }),
  ),
});

/** Takes a line for the operator. */
type Report = (line: string) => void;

interface Holder {
  readonly caller: Caller;
  readonly user: string;
  readonly expiresAtMs: number;
}

/** Mode `tokens`: callers send a token of a file, or a user and a token as HTTP basic. */
export class TokenFile implements Identity {
  readonly challenge = 'Basic realm="image-import", charset="UTF-8"';
  readonly #path: string;
  #holders: ReadonlyMap<string, Holder>;
  #state: string;
  #lookedAtMs = performance.now();
  #looking: Promise<void> | undefined;
  readonly #report: Report;

  private constructor(
    path: string,
    state: string,
    holders: ReadonlyMap<string, Holder>,
    report: Report,
  ) {
    this.#report = report;
    this.#path = path;
    this.#state = state;
    this.#holders = holders;
  }

  /**
   * Reads the file.
   *
   * @param report - takes the reason why a changed file is not used: the earlier tokens stay valid
   * @throws ImportError `BadConfiguration` for a file that cannot be read
   */
  static async open(path: string, report: Report): Promise<TokenFile> {
    return new TokenFile(path, await stateOf(path), await readTokens(path), report);
  }

  async identify({ headers }: Credentials): Promise<Caller> {
    const given = credentialsIn(headers);
    if (given === undefined) throw this.#refusal("This request needs a token");
    await this.#lookAgain();
    const holder = this.#holders.get(digestOf(given.token));
    const isRight =
      holder !== undefined && (given.user === undefined || given.user === holder.user);
    if (!isRight) throw this.#refusal("The token is not known");
    if (holder.expiresAtMs <= Date.now()) throw this.#refusal("The token has expired");
    return holder.caller;
  }

  async close(): Promise<void> {
    await this.#looking;
  }

  #refusal(reason: string): HttpFailure {
    return new HttpFailure(401, `${reason}.`, {
      headers: { "www-authenticate": this.challenge },
      hint: "Send it as X-Auth-Token, or as the password of HTTP basic with the user of the token.",
    });
  }

  async #lookAgain(): Promise<void> {
    if (performance.now() - this.#lookedAtMs < LOOK_EVERY_MS) return this.#looking;
    this.#lookedAtMs = performance.now();
    this.#looking = this.#reload();
    await this.#looking;
  }

  /** Reads a changed file. If it is incomplete or wrong, the earlier tokens stay valid. */
  async #reload(): Promise<void> {
    try {
      const state = await stateOf(this.#path);
      if (state === this.#state) return;
      this.#holders = await readTokens(this.#path);
      this.#state = state;
    } catch (error) {
      if (!(error instanceof ImportError)) throw error;
      this.#report(`${error.message}. The tokens that were read before stay valid`);
    }
  }
}

/** A text that differs once the file was replaced or changed. */
async function stateOf(path: string): Promise<string> {
  const facts = await stat(path, { bigint: true }).catch((cause: unknown) => {
    throw unusable(path, cause instanceof Error ? cause.message : String(cause));
  });
  return `${String(facts.ino)} ${String(facts.size)} ${String(facts.mtimeNs)} ${String(facts.ctimeNs)}`;
}

async function readTokens(path: string): Promise<ReadonlyMap<string, Holder>> {
  let document: unknown;
  try {
    document = parse(await readFile(path, "utf8"));
  } catch (error) {
    throw unusable(path, error instanceof Error ? error.message : String(error));
  }
  const parsed = tokenFile.safeParse(document ?? {});
  if (!parsed.success) throw unusable(path, z.prettifyError(parsed.error));
  return new Map(
    parsed.data.tokens.map(({ digest, user, project, roles, expires }) => [
      digest.slice("sha256:".length),
      {
        user,
        caller: callerOf(user, project, roles),
        expiresAtMs: expires === undefined ? Number.POSITIVE_INFINITY : Date.parse(expires),
      },
    ]),
  );
}

function unusable(path: string, why: string): ImportError {
  return new ImportError(
    "BadConfiguration",
    `Cannot use the tokens of "${path}" (api.tokens_file): ${why}`,
    { hint: "`image-import token` makes a token and the lines for the file." },
  );
}
