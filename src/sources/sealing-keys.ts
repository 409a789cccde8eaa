import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";
import { ImportError } from "../domain/import-failure.ts";
import { readSecretFile, unusableSecret } from "./secret-file.ts";

const CIPHER = "aes-256-gcm";
const KEY_BYTES = 32;
// The length that GCM is designed for. Random nonces of this length are safe for 2^32 URIs of one
// key.
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const PREFIX = "sealed:v1:";
const SEALED = /^sealed:v1:([0-9a-f]{8}):([A-Za-z0-9_-]+)$/;

const HINT = "Set `secrets.key_file` in the configuration to a file that has the key.";

interface Key {
  readonly id: string;
  readonly bytes: Buffer;
}

/** True if {@link SealingKeys.seal} made a URI. */
export function isSealed(uri: string): boolean {
  return uri.startsWith(PREFIX);
}

/**
 * Keys that encrypt URIs, so that histories, rows and payloads do not contain their secrets. A
 * sealed URI reads `sealed:v1:<key id>:<base64url>`, and is valid for one image only. The first key
 * seals, and every key opens: a new key goes before the old ones.
 */
export class SealingKeys {
  readonly #keys: readonly Key[];

  /** @param keys - 32 bytes each. Default: none; then no URI can be sealed or opened */
  constructor(keys: readonly Buffer[] = []) {
    this.#keys = keys.map((bytes) => ({ id: idOf(bytes), bytes }));
  }

  /**
   * Reads a file of keys: each line is a key of 32 bytes in base64.
   *
   * @throws ImportError `BadConfiguration`, also if other users may read the file or write to it
   */
  static async read(path: string): Promise<SealingKeys> {
    const lines = (await readSecretFile("key file", path)).split("\n").map((line) => line.trim());
    const keys = lines.filter((line) => line !== "").map((line) => Buffer.from(line, "base64"));
    if (keys.length > 0 && keys.every(({ length }) => length === KEY_BYTES)) {
      return new SealingKeys(keys);
    }
    throw unusable(path, "each of its lines must be 32 bytes in base64", {
      hint: "Make a key with `openssl rand -base64 32`.",
    });
  }

  /**
   * Seals a URI for one image.
   *
   * @throws ImportError `BadConfiguration` when no key is configured
   */
  seal(imageId: string, uri: string): string {
    const [key] = this.#keys;
    if (key === undefined) {
      throw new ImportError(
        "BadConfiguration",
        "Cannot seal the URI, which may contain a secret: no key is configured",
        { hint: HINT },
      );
    }
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, key.bytes, nonce).setAAD(contextOf(imageId));
    const sealed = Buffer.concat([nonce, cipher.update(uri, "utf8"), cipher.final()]);
    const body = Buffer.concat([sealed, cipher.getAuthTag()]).toString("base64url");
    return `${PREFIX}${key.id}:${body}`;
  }

  /**
   * Opens a sealed URI. Any other URI is returned as it is.
   *
   * @throws ImportError `BadConfiguration` when its key is missing, `BadRequest` when it was
   *   sealed for another image or was changed
   */
  open(imageId: string, uri: string): string {
    if (!isSealed(uri)) return uri;
    const [, id, body = ""] = SEALED.exec(uri) ?? [];
    const bytes = Buffer.from(body, "base64url");
    if (id === undefined || bytes.length < NONCE_BYTES + TAG_BYTES) throw notSealed();
    const key = this.#keys.find((each) => each.id === id);
    if (key === undefined) {
      throw new ImportError(
        "BadConfiguration",
        `Cannot open the sealed URI: its key, ${id}, is not configured`,
        { hint: HINT },
      );
    }
    const decipher = createDecipheriv(CIPHER, key.bytes, bytes.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(contextOf(imageId)).setAuthTag(bytes.subarray(-TAG_BYTES));
    try {
      const text = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES));
      return Buffer.concat([text, decipher.final()]).toString("utf8");
    } catch {
      throw notSealed();
    }
  }
}

function idOf(key: Buffer): string {
  return createHash("sha256").update(key).digest("hex").slice(0, 8);
}

function contextOf(imageId: string): Buffer {
  return Buffer.from(`image-import uri ${imageId}`);
}

function notSealed(): ImportError {
  return new ImportError(
    "BadRequest",
    "Cannot open the sealed URI: it was sealed for another image, or changed",
  );
}

function unusable(path: string, reason: string, options: { readonly hint: string }): ImportError {
  return unusableSecret("key file", path, reason, options);
}
