import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { temporalAddress } from "../../src/config/temporal-address.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

// grpc-js then uses no proxy.
const DIRECT = { channelArgs: { "grpc.enable_http_proxy": 0 } };
const STACK = { address: "127.0.0.1:20002", namespace: "stack" };

let configFile: string;
beforeEach(() => {
  configFile = join(makeTemporaryDirectory(), "temporal.toml");
  vi.stubEnv("TEMPORAL_CONFIG_FILE", configFile);
  for (const name of ["ADDRESS", "NAMESPACE", "API_KEY", "PROFILE"]) {
    vi.stubEnv(`TEMPORAL_${name}`, undefined);
  }
});
afterEach(() => {
  vi.unstubAllEnvs();
});

describe("temporalAddress()", () => {
  it("leaves the address to Temporal when nothing names one", () => {
    expect(temporalAddress()).toEqual({ namespace: "default", connection: DIRECT });
  });

  it("uses the known address", () => {
    expect(temporalAddress(STACK)).toEqual({
      namespace: "stack",
      connection: { address: "127.0.0.1:20002", ...DIRECT },
    });
  });

  it("prefers the environment", () => {
    vi.stubEnv("TEMPORAL_ADDRESS", "cluster:7233");
    vi.stubEnv("TEMPORAL_NAMESPACE", "production");
    vi.stubEnv("TEMPORAL_API_KEY", "key");

    expect(temporalAddress(STACK)).toEqual({
      namespace: "production",
      connection: { address: "cluster:7233", apiKey: "key", tls: true },
    });
  });

  it("treats an empty variable as not set", () => {
    vi.stubEnv("TEMPORAL_ADDRESS", "");
    vi.stubEnv("TEMPORAL_NAMESPACE", "");

    expect(temporalAddress(STACK)).toEqual({
      namespace: "stack",
      connection: { address: "127.0.0.1:20002", ...DIRECT },
    });
  });

  it("changes only the namespace when only that is set", () => {
    vi.stubEnv("TEMPORAL_NAMESPACE", "production");

    expect(temporalAddress(STACK)).toEqual({
      namespace: "production",
      connection: { address: "127.0.0.1:20002", ...DIRECT },
    });
  });

  it("reads the file of the temporal command", () => {
    writeFileSync(
      configFile,
      '[profile.default]\naddress = "cluster:7233"\nnamespace = "production"\n',
    );

    expect(temporalAddress(STACK)).toEqual({
      namespace: "production",
      connection: { address: "cluster:7233" },
    });
  });
});
