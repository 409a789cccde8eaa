import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { configurationFile, parseConfig, readConfig } from "../../src/config/config.ts";
import { UNLIMITED } from "../../src/domain/quota.ts";
import { DEFAULT_FORMAT_POLICY } from "../../src/domain/format-policy.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { mistakesOf } from "../support/config-mistakes.ts";

const PATH = "/etc/image-import/image-import.yaml";

const ONE_STORE = "stores: {fast: {type: file, path: /srv/fast}}";

const DEFAULTS = {
  nodeStagingUri: "file:///etc/image-import/staging",
  hashAlgo: "sha512",
  defaultStore: "fast",
  stores: {
    fast: {
      type: "file",
      path: "/srv/fast",
      zeroCopy: true,
      mode: 0o440,
      owner: undefined,
      bandwidthLimit: undefined,
      readOnly: false,
      disabled: false,
    },
  },
  stagingTimeToLiveMs: 24 * 3_600_000,
  stagingBandwidthLimit: undefined,
  importDeadlineMs: 24 * 3_600_000,
  publishAtOnceBytes: 1024 * 1024,
  taskTimeToLiveMs: 48 * 3_600_000,
  runTimeToLiveMs: undefined,
  heartbeatTimeoutMs: 15_000,
  idleTimeoutMs: 60_000,
  byteSlots: 3,
  limits: { imageSizeCapBytes: 1024 ** 4, everyOwner: UNLIMITED, owners: new Map() },
  transforms: {
    order: [],
    decompress: { maxRatio: 64, memoryBytes: 256 * 1024 ** 2, timeLimitMs: 21_600_000 },
    convert: {
      target: "raw",
      vmdkType: "monolithicSparse",
      memoryBytes: 1024 ** 3,
      timeLimitMs: 21_600_000,
    },
    injectMetadata: { properties: {}, ignoreUserRoles: ["admin"] },
  },
  formatPolicy: DEFAULT_FORMAT_POLICY,
  web: {
    schemes: ["http", "https"],
    ports: [80, 443],
    allowedNetworks: [],
    allowedHosts: [],
    deniedHosts: [],
    caFile: undefined,
    proxyUrl: undefined,
    proxyCredentialsFile: undefined,
    noProxy: [],
    connectTimeoutMs: 10_000,
    headerTimeoutMs: 15_000,
    idleTimeoutMs: 30_000,
    minimumRate: 1024,
    connections: 1,
    bandwidthLimit: undefined,
  },
  keyFile: undefined,
  verifyOnPublish: false,
  reconcileEveryMs: 5 * 60_000,
  health: { host: "127.0.0.1", port: 0 },
  metrics: { host: "127.0.0.1", port: 0 },
  api: {
    host: "127.0.0.1",
    port: 9292,
    publicUrl: undefined,
    identity: { mode: "none", allowAnyone: false, origins: [] },
    glanceRegions: {},
    allowedOrigins: [],
    idleTimeoutMs: 60_000,
    drainMs: 30_000,
  },
  logging: { level: "info", maxSizeBytes: 16 * 1024 ** 2, keep: 5 },
};

const QUOTAS_OF_ALL = {
  image_size_total: 500 * 1024 ** 3,
  image_stage_total: 0,
  image_count_total: 100,
  image_count_uploading: Infinity,
};

const mistakes = (...all: string[]) => mistakesOf(PATH, all);

describe("parseConfig()", () => {
  it("needs one store, and has a default for all else", () => {
    expect(parseConfig(ONE_STORE, PATH)).toEqual(DEFAULTS);
  });

  it("takes every setting", () => {
    const text = `
      node_staging_uri: file:///srv/staging
      hashing_algorithm: sha256
      default_store: fast
      stores:
        slow: { type: file, path: /srv/slow }
        fast: { type: file, path: /srv/fast }
      staging: { time_to_live: 2d, bandwidth_limit: 1GiB }
      import: { deadline: 1h, heartbeat_timeout: 3s, idle_timeout: 90s, task_time_to_live: 7d, run_time_to_live: 30d, slots: 4, transforms: [decompress, { module: ./own.mjs }] }
      limits:
        image_size_cap: 10GiB
        image_size_total: 500GiB
        image_stage_total: 0
        image_count_total: 100
        owners:
          qa: { image_size_total: unlimited, image_count_total: 5, image_count_uploading: 2 }
          constructor: {}
      decompress: { max_ratio: 50, memory: 64MiB, time_limit: 5m }
      convert: { output_format: qcow2, memory: 2GiB, time_limit: 6m }
      inject_metadata: { properties: { origin: web }, ignore_user_roles: [] }
      formats:
        require_image_format_match: false
        disk_formats: [raw, qcow2]
        container_formats: [bare]
        vmdk_allowed_types: []
        allowed_encryption: [luks1, luks2]
        gpt_safety_checks_nonfatal: [mbr]
        allow_dirty: false
        allow_snapshots: false
        allow_text: true
        max_virtual_size: 2TiB
        max_virtual_ratio: 100
      sources:
        web:
          schemes: [https]
          ports: [443, 8443]
          allowed_networks: [10.0.0.0/8, "fd00::/8"]
          allowed_hosts: ["*.Example.org"]
          denied_hosts: [bad.example.org]
          ca_file: ca.pem
          proxy: http://proxy.example.org:3128
          proxy_credentials_file: proxy.credentials
          no_proxy: ["*.example.org", 10.0.0.0/8]
          connect_timeout: 1s
          header_timeout: 2s
          idle_timeout: 3s
          minimum_rate: 64KiB
          connections: 4
          bandwidth_limit: 50MiB
      secrets: { key_file: secrets.key }
      verify_on_publish: true
      reconcile_every: 10m
      logging: { level: debug, max_size: 1MiB, keep: 2 }
      health: { host: 0.0.0.0, port: 9465 }
      metrics: { host: 0.0.0.0, port: 9464 }
      api:
        host: 0.0.0.0
        port: 80
        public_url: https://images.example.org/
        identity: keystone
        keystone: { url: https://keystone/v3/, ca_file: ca.pem, cache: 1m }
        glance_regions: { west: https://west.example.org }
        allowed_origins: [https://horizon.example.org]
        idle_timeout: 10s
        drain: 1m
    `;

    expect(parseConfig(text, PATH)).toEqual({
      logging: { level: "debug", maxSizeBytes: 1024 ** 2, keep: 2 },
      health: { host: "0.0.0.0", port: 9465 },
      metrics: { host: "0.0.0.0", port: 9464 },
      api: {
        host: "0.0.0.0",
        port: 80,
        publicUrl: "https://images.example.org",
        identity: {
          mode: "keystone",
          url: "https://keystone/v3",
          caFile: "/etc/image-import/ca.pem",
          cacheMs: 60_000,
        },
        glanceRegions: { west: "https://west.example.org" },
        allowedOrigins: ["https://horizon.example.org"],
        idleTimeoutMs: 10_000,
        drainMs: 60_000,
      },
      nodeStagingUri: "file:///srv/staging",
      hashAlgo: "sha256",
      defaultStore: "fast",
      stores: { slow: { ...DEFAULTS.stores.fast, path: "/srv/slow" }, ...DEFAULTS.stores },
      stagingTimeToLiveMs: 2 * 86_400_000,
      stagingBandwidthLimit: 1024 ** 3,
      importDeadlineMs: 3_600_000,
      publishAtOnceBytes: 1024 * 1024,
      taskTimeToLiveMs: 7 * 86_400_000,
      runTimeToLiveMs: 30 * 86_400_000,
      heartbeatTimeoutMs: 3000,
      idleTimeoutMs: 90_000,
      byteSlots: 4,
      limits: {
        imageSizeCapBytes: 10 * 1024 ** 3,
        everyOwner: QUOTAS_OF_ALL,
        owners: new Map([
          [
            "qa",
            {
              image_size_total: Infinity,
              image_stage_total: 0,
              image_count_total: 5,
              image_count_uploading: 2,
            },
          ],
          ["constructor", QUOTAS_OF_ALL],
        ]),
      },
      transforms: {
        order: ["decompress", { module: "/etc/image-import/own.mjs" }],
        decompress: { maxRatio: 50, memoryBytes: 64 * 1024 ** 2, timeLimitMs: 300_000 },
        convert: {
          target: "qcow2",
          vmdkType: "monolithicSparse",
          memoryBytes: 2 * 1024 ** 3,
          timeLimitMs: 360_000,
        },
        injectMetadata: { properties: { origin: "web" }, ignoreUserRoles: [] },
      },
      formatPolicy: {
        requireImageFormatMatch: false,
        diskFormats: ["raw", "qcow2"],
        containerFormats: ["bare"],
        vmdkAllowedTypes: [],
        allowedEncryption: ["luks1", "luks2"],
        gptSafetyChecksNonfatal: ["mbr"],
        allowDirty: false,
        allowSnapshots: false,
        allowText: true,
        maxVirtualSizeBytes: 2 * 1024 ** 4,
        maxVirtualRatio: 100,
      },
      web: {
        schemes: ["https"],
        ports: [443, 8443],
        allowedNetworks: ["10.0.0.0/8", "fd00::/8"],
        allowedHosts: ["*.example.org"],
        deniedHosts: ["bad.example.org"],
        caFile: "/etc/image-import/ca.pem",
        proxyUrl: "http://proxy.example.org:3128",
        proxyCredentialsFile: "/etc/image-import/proxy.credentials",
        noProxy: ["*.example.org", "10.0.0.0/8"],
        connectTimeoutMs: 1000,
        headerTimeoutMs: 2000,
        idleTimeoutMs: 3000,
        minimumRate: 64 * 1024,
        connections: 4,
        bandwidthLimit: 50 * 1024 ** 2,
      },
      keyFile: "/etc/image-import/secrets.key",
      verifyOnPublish: true,
      reconcileEveryMs: 600_000,
    });
  });

  it("keeps a staging URI as it was written, even if it is not a URI", () => {
    const text = `node_staging_uri: /srv/staging\n${ONE_STORE}`;

    expect(parseConfig(text, PATH).nodeStagingUri).toBe("/srv/staging");
  });

  it.each([
    ["no store", "stores: {}", "stores: must name at least one store"],
    [
      "a store whose name could not be a file's",
      "stores: {../fast: {type: file, path: /srv}}",
      "stores.../fast: store names are a-z, 0-9, _ and -",
    ],
    [
      "a default store that does not exist",
      `default_store: slow\n${ONE_STORE}`,
      'default_store: "slow" is not one of stores',
    ],
    [
      "a default store that only the language knows",
      `default_store: constructor\n${ONE_STORE}`,
      'default_store: "constructor" is not one of stores',
    ],
    [
      "a text that is not a size",
      `staging: {bandwidth_limit: fast}\n${ONE_STORE}`,
      'staging.bandwidth_limit: must be a size such as 64MiB, not "fast"',
    ],
    [
      "a type of vmdk that is never accepted",
      `formats: {vmdk_allowed_types: [monolithicFlat]}\n${ONE_STORE}`,
      'formats.vmdk_allowed_types.0: Invalid option: expected one of "monolithicSparse"|"streamOptimized"',
    ],
    [
      "a ratio that no image can have",
      `formats: {max_virtual_ratio: 0.5}\n${ONE_STORE}`,
      "formats.max_virtual_ratio: Too small: expected number to be >=1",
    ],
    [
      "a text that is not a duration",
      `import: {deadline: soon}\n${ONE_STORE}`,
      'import.deadline: must be a duration such as 15s, not "soon"',
    ],
    [
      "a hash that Glance does not have",
      `hashing_algorithm: md5\n${ONE_STORE}`,
      'hashing_algorithm: Invalid option: expected one of "sha256"|"sha384"|"sha512"',
    ],
    [
      "no slots",
      `import: {slots: 0}\n${ONE_STORE}`,
      "import.slots: Too small: expected number to be >=1",
    ],
    [
      "a quota that is not a size",
      `limits: {image_size_total: -1}\n${ONE_STORE}`,
      'limits.image_size_total: must be a size such as 500GiB, or unlimited, not "-1"',
    ],
    [
      "a number of images that is a size",
      `limits: {owners: {qa: {image_count_total: 5GiB}}}\n${ONE_STORE}`,
      'limits.owners.qa.image_count_total: must be a number such as 100, or unlimited, not "5GiB"',
    ],
    [
      "a cap of nothing",
      `limits: {image_size_cap: 0}\n${ONE_STORE}`,
      'limits.image_size_cap: must be a size such as 64MiB, not "0"',
    ],
    [
      "a cap of one owner",
      `limits: {owners: {qa: {image_size_cap: 1GiB}}}\n${ONE_STORE}`,
      'limits.owners.qa: Unrecognized key: "image_size_cap"',
    ],
    [
      "a setting that does not exist",
      `default_stores: fast\n${ONE_STORE}`,
      'file: Unrecognized key: "default_stores"',
    ],
    ["a list", "- fast", "file: Invalid input: expected object, received array"],
    ["nothing", "", "stores: Invalid input: expected record, received undefined"],
  ])("refuses %s", (_, text, mistake) => {
    expect(() => parseConfig(text, PATH)).toThrow(mistakes(mistake));
  });

  it("names the line of a mistake, and of a key that is misspelt", () => {
    const text = `
stores:
  fast: { type: file, path: /srv/fast }
  slow:
    type: file
import:
  slots: 65
  slot: 3
`;

    expect(() => parseConfig(text, PATH)).toThrow(
      `Cannot use the configuration "${PATH}": ` +
        "stores.slow.path (line 4): Invalid input: expected string, received undefined; " +
        "import.slots (line 7): Too big: expected number to be <=64; " +
        'import (line 8): Unrecognized key: "slot"',
    );
  });

  it("names every mistake at once", () => {
    const text = `
      default_store: slow
      stores: { fast: { type: file, path: "", zero_copy: perhaps } }
      import: { slots: 65, idle_timeout: 5 }
      stagings: {}
    `;

    expect(() => parseConfig(text, PATH)).toThrow(
      mistakes(
        "stores.fast.path: Too small: expected string to have >=1 characters",
        "stores.fast.zero_copy: Invalid input: expected boolean, received string",
        "import.idle_timeout: Invalid input: expected string, received number",
        "import.slots: Too big: expected number to be <=64",
        'file: Unrecognized key: "stagings"',
        'default_store: "slow" is not one of stores',
      ),
    );
  });

  it("names the place where the text is not YAML", () => {
    expect(() => parseConfig("stores: [", PATH)).toThrow(
      expect.objectContaining({
        code: "BadConfiguration",
        message: expect.stringContaining("at line 1, column 10") as string,
      }),
    );
  });
});

describe("readConfig()", () => {
  it("reads a file, and lets relative paths start at its folder", () => {
    const directory = makeTemporaryDirectory();
    const path = join(directory, "image-import.yaml");
    writeFileSync(path, "stores: {fast: {type: file, path: stores/fast}}\n");

    expect(readConfig(path)).toEqual({
      ...DEFAULTS,
      nodeStagingUri: `file://${directory}/staging`,
      stores: { fast: { ...DEFAULTS.stores.fast, path: join(directory, "stores", "fast") } },
    });
  });

  it("names the file when it can't be read", () => {
    const path = join(makeTemporaryDirectory(), "missing.yaml");

    expect(() => readConfig(path)).toThrow(
      expect.objectContaining({
        code: "BadConfiguration",
        message: `Cannot read the configuration "${path}": ENOENT: no such file or directory, open '${path}'`,
        cause: expect.objectContaining({ code: "ENOENT" }) as Error,
      }),
    );
  });
});

describe("configurationFile", () => {
  it("describes every setting for docs/configuration.md", () => {
    const settings = settingsIn(configurationFile, "");

    expect(settings.length).toBeGreaterThan(70);
    expect(settings.filter(({ description }) => !/^[`A-Z].*\.$/.test(description))).toEqual([]);
  });
});

/** A setting of the file, by its place. */
interface DescribedSetting {
  readonly name: string;
  readonly description: string;
}

function settingsIn(schema: z.core.$ZodType, name: string, outer = ""): DescribedSetting[] {
  const { def } = schema._zod as unknown as { readonly def: z.core.$ZodTypes["_zod"]["def"] };
  const description = outer === "" ? (z.globalRegistry.get(schema)?.description ?? "") : outer;
  const below = (key: string): string => (name === "" ? key : `${name}.${key}`);
  if (def.type === "object") {
    return Object.entries(def.shape).flatMap(([key, each]) => settingsIn(each, below(key)));
  }
  if ("innerType" in def) return settingsIn(def.innerType, name, description);
  if (def.type === "pipe") return settingsIn(def.in, name, description);
  if (def.type === "union" && "discriminator" in def) {
    return def.options.flatMap((each) => settingsIn(each, name));
  }
  if (def.type === "record" && description === "") return settingsIn(def.valueType, below("NAME"));
  return [{ name, description }];
}

describe("parseConfig() of downloads", () => {
  it.each([
    ["schemes: [ftp]", "schemes.0"],
    ["ports: [0]", "ports.0"],
    ["ports: []", "ports"],
    ["allowed_networks: [10.0.0.1]", "allowed_networks.0"],
    ["denied_hosts: ['http://example.org']", "denied_hosts.0"],
    ["idle_timeout: 3", "idle_timeout"],
  ])("refuses %s", (setting, where) => {
    const text = `${ONE_STORE}\nsources: { web: { ${setting} } }`;

    expect(() => parseConfig(text, PATH)).toThrow(`${PATH}": sources.web.${where} (line 2): `);
  });
});
