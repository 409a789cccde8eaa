import { readFileSync } from "node:fs";

// The variables with secrets that the libraries of AWS, Temporal and Postgres read. The URL of a
// proxy may have a password.
const VARIABLES = [
  "AWS_SECRET_ACCESS_KEY",
  "AWS_SESSION_TOKEN",
  "TEMPORAL_API_KEY",
  "PGPASSWORD",
  "http_proxy",
  "https_proxy",
  "HTTP_PROXY",
  "HTTPS_PROXY",
  "grpc_proxy",
];

/**
 * The secrets of this process, which its log must not contain. `keyFile` holds the keys that seal
 * URLs.
 */
export function knownSecrets(
  {
    databaseUrl,
    keyFile,
  }: { readonly databaseUrl?: string; readonly keyFile?: string | undefined },
  env: NodeJS.ProcessEnv = process.env,
): string[] {
  const named = VARIABLES.map((name) => env[name] ?? "");
  const proxies = named.map((text) => passwordOf(text));
  return [...named, ...proxies, passwordOf(databaseUrl ?? ""), ...keysIn(keyFile)].filter(
    (secret) => secret !== "",
  );
}

function passwordOf(url: string): string {
  return URL.canParse(url) ? decoded(new URL(url).password) : "";
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function keysIn(path: string | undefined): string[] {
  if (path === undefined) return [];
  try {
    return readFileSync(path, "utf8").split(/\s+/);
  } catch {
    // The part that needs the keys reports a file that cannot be read.
    return [];
  }
}
