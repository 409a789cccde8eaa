import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { temporalAddress } from "../../src/config/temporal-address.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

// grpc-js asks no proxy then.
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

  it("takes the address that is known", () => {
    expect(temporalAddress(STACK)).toEqual({
      namespace: "stack",
      connection: { address: "127.0.0.1:20002", ...DIRECT },
    });
  });

  it("prefers what the environment says", () => {
    vi.stubEnv("TEMPORAL_ADDRESS", "cluster:7233");
    vi.stubEnv("TEMPORAL_NAMESPACE", "production");
    vi.stubEnv("TEMPORAL_API_KEY", "key");

    expect(temporalAddress(STACK)).toEqual({
      namespace: "production",
      connection: { address: "cluster:7233", apiKey: "key", tls: true },
    });
  });

  it("takes a variable that is set to nothing for one that is not set", () => {
    vi.stubEnv("TEMPORAL_ADDRESS", "");
    vi.stubEnv("TEMPORAL_NAMESPACE", "");

    expect(temporalAddress(STACK)).toEqual({
      namespace: "stack",
      connection: { address: "127.0.0.1:20002", ...DIRECT },
    });
  });

  it("changes the namespace alone when that alone is set", () => {
    vi.stubEnv("TEMPORAL_NAMESPACE", "production");

    expect(temporalAddress(STACK)).toEqual({
      namespace: "production",
      connection: { address: "127.0.0.1:20002", ...DIRECT },
    });
  });

  it("reads the file that the temporal command reads", () => {
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
