import { describe, expect, it } from "vitest";
import { parseConfig } from "../../src/config/config.ts";
import { mistakesOf } from "../support/config-mistakes.ts";

const PATH = "/etc/image-import/image-import.yaml";

const FILE_DEFAULTS = {
  type: "file",
  path: "/srv/fast",
  zeroCopy: true,
  mode: 0o440,
  owner: undefined,
  bandwidthLimit: undefined,
  readOnly: false,
  disabled: false,
};

const S3_DEFAULTS = {
  type: "s3",
  bucket: "images",
  prefix: "",
  region: "us-east-1",
  endpoint: undefined,
  pathStyle: false,
  checksums: "when_supported",
  partSizeBytes: 16 * 1024 ** 2,
  partsInFlight: 4,
  bandwidthLimit: undefined,
  readOnly: false,
  disabled: false,
};

const CHAIN =
  "the AWS SDK looks for them in the worker's environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), " +
  "in ~/.aws (AWS_PROFILE) and in the machine's role";

/** The settings of one store that is written like this. */
function parseStore(store: string, env: NodeJS.ProcessEnv = {}): unknown {
  return parseConfig(`stores: { it: { ${store} } }`, PATH, env).stores["it"];
}

const mistakes = (...all: string[]) => mistakesOf(PATH, all);

describe("a file store", () => {
  it("needs a path, and has a default for all else", () => {
    expect(parseStore("type: file, path: /srv/fast")).toEqual(FILE_DEFAULTS);
  });

  it("takes every setting", () => {
    const store =
      'type: file, path: /srv/fast, zero_copy: false, mode: "0444", owner: 64055:0, ' +
      "bandwidth_limit: 100MiB, read_only: false, disabled: false";

    expect(parseStore(store)).toEqual({
      ...FILE_DEFAULTS,
      zeroCopy: false,
      mode: 0o444,
      owner: { uid: 64_055, gid: 0 },
      bandwidthLimit: 100 * 1024 ** 2,
    });
  });

  it("lets a relative path start at the folder of the file", () => {
    expect(parseStore("type: file, path: ../fast")).toMatchObject({ path: "/etc/fast" });
  });

  it.each([
    ["path", "path: ''", "Too small: expected string to have >=1 characters"],
    ["mode", "path: /a, mode: 0440", 'must be octal text in quotes, such as "0440"'],
    ["mode", "path: /a, mode: '0888'", 'must be octal text such as "0440", not "0888"'],
    ["mode", "path: /a, mode: '4440'", 'must be octal text such as "0440", not "4440"'],
    ...["0640", "0460", "0442", "0040"].map((mode) => [
      "mode",
      `path: /a, mode: '${mode}'`,
      `must let its owner read and no user write, not "${mode}": published files are read-only`,
    ]),
    [
      "owner",
      "path: /a, owner: 'glance:glance'",
      'must be "uid:gid" in numbers, such as "64055:64055"',
    ],
    ["bandwidth_limit", "path: /a, bandwidth_limit: 65535", "must be at least 64KiB per second"],
  ])("refuses the %s in { %s }", (setting, store, mistake) => {
    expect(() => parseStore(`type: file, ${store}`)).toThrow(
      mistakes(`stores.it.${setting}: ${mistake}`),
    );
  });

  it("refuses settings that do not exist", () => {
    expect(() => parseStore("type: file, path: /a, zerocopy: true, bucket: b")).toThrow(
      mistakes('stores.it: Unrecognized key: "zerocopy"', 'stores.it: Unrecognized key: "bucket"'),
    );
  });
});

describe("an s3 store", () => {
  it("needs a bucket, and has a default for all else", () => {
    expect(parseStore("type: s3, bucket: images")).toEqual(S3_DEFAULTS);
  });

  it("takes every setting", () => {
    const store =
      "type: s3, bucket: images, prefix: glance/images, region: eu-west-1, " +
      "endpoint: 'https://S3.example.org:443/', path_style: false, ca_file: /etc/authority.pem, checksums: when_required, " +
      "part_size: 5GiB, parts_in_flight: 16, bandwidth_limit: 64KiB";

    expect(parseStore(store)).toEqual({
      ...S3_DEFAULTS,
      prefix: "glance/images/",
      region: "eu-west-1",
      endpoint: "https://s3.example.org",
      caFile: "/etc/authority.pem",
      checksums: "when_required",
      partSizeBytes: 5 * 1024 ** 3,
      partsInFlight: 16,
      bandwidthLimit: 65_536,
    });
  });

  it("names the bucket in the path at an endpoint that is not AWS's", () => {
    expect(parseStore("type: s3, bucket: images, endpoint: 'http://127.0.0.1:7480'")).toEqual({
      ...S3_DEFAULTS,
      endpoint: "http://127.0.0.1:7480",
      pathStyle: true,
    });
  });

  it.each([
    ["", { AWS_REGION: "eu-north-1" }, "eu-north-1"],
    ["", { AWS_REGION: "" }, "us-east-1"],
    [", region: garage", { AWS_REGION: "eu-north-1" }, "garage"],
  ])("with { type: s3, bucket: images%s } and %j is in the region %s", (store, env, region) => {
    expect(parseStore(`type: s3, bucket: images${store}`, env)).toMatchObject({ region });
  });

  it.each([
    ["", ""],
    ["glance", "glance/"],
    ["glance/", "glance/"],
    ["a/..b/.c", "a/..b/.c/"],
  ])("takes the prefix %j for %j", (written, prefix) => {
    expect(parseStore(`type: s3, bucket: images, prefix: '${written}'`)).toMatchObject({ prefix });
  });

  it.each(["/", "/a", "a//b", "a//", "./a", "a/..", "..", "a/./b/"])(
    "refuses the prefix %j",
    (prefix) => {
      expect(() => parseStore(`type: s3, bucket: images, prefix: '${prefix}'`)).toThrow(
        mistakes(
          'stores.it.prefix: must be names separated by "/", none of them empty, "." or ".."',
        ),
      );
    },
  );

  it.each(["", "ab", "Images", "a_b", "s3://images", "images/glance", "-images", "images."])(
    "refuses the bucket %j",
    (bucket) => {
      expect(() => parseStore(`type: s3, bucket: '${bucket}'`)).toThrow(
        mistakes("stores.it.bucket: must be 3 to 63 of a-z, 0-9, . and -"),
      );
    },
  );

  it.each([
    ["s3.example.org", "must be a URL such as https://s3.example.org"],
    ["ftp://s3.example.org", "must be an http or https URL"],
    ["https://s3.example.org/images", "must end after host and port"],
    ["https://s3.example.org?x=1", "must end after host and port"],
    ["https://s3.example.org#x", "must end after host and port"],
    ["https://key:sesame@s3.example.org", `must not contain credentials: ${CHAIN}`],
  ])("refuses the endpoint %s", (endpoint, mistake) => {
    expect(() => parseStore(`type: s3, bucket: images, endpoint: '${endpoint}'`)).toThrow(
      mistakes(`stores.it.endpoint: ${mistake}`),
    );
  });

  it.each([
    ["region: ''", "region: Too small: expected string to have >=1 characters"],
    ["part_size: 5242879", "part_size: must be at least 5MiB and at most 5GiB"],
    ["part_size: 5368709121", "part_size: must be at least 5MiB and at most 5GiB"],
    ["parts_in_flight: 0", "parts_in_flight: Too small: expected number to be >=1"],
    ["parts_in_flight: 17", "parts_in_flight: Too big: expected number to be <=16"],
    [
      "checksums: never",
      'checksums: Invalid option: expected one of "when_supported"|"when_required"',
    ],
    ["bandwidth_limit: 1KiB", "bandwidth_limit: must be at least 64KiB per second"],
  ])("refuses { %s }", (setting, mistake) => {
    expect(() => parseStore(`type: s3, bucket: images, ${setting}`)).toThrow(
      mistakes(`stores.it.${mistake}`),
    );
  });

  it.each([
    "access_key",
    "secret_key",
    "aws_access_key_id",
    "secretAccessKey",
    "s3_store_secret_key",
    "session_token",
    "credentials",
    "password",
  ])("is refused with the places for credentials when it has the setting %s", (setting) => {
    expect(() => parseStore(`type: s3, bucket: images, ${setting}: sesame`)).toThrow(
      mistakes(`stores.it: "${setting}" must not be in this file: ${CHAIN}`),
    );
  });

  it("is refused for credentials and for other settings that do not exist", () => {
    expect(() => parseStore("type: s3, bucket: images, path: /a, secret_key: sesame")).toThrow(
      mistakes(
        'stores.it: Unrecognized key: "path"',
        `stores.it: "secret_key" must not be in this file: ${CHAIN}`,
      ),
    );
  });
});

describe("a store", () => {
  it.each([
    ["of a type that does not exist", "{ type: tape }", ".type"],
    ["without a type", "{ path: /srv }", ".type"],
    ["that is a number", "7", ""],
  ])("%s is refused", (_, store, place) => {
    expect(() => parseConfig(`stores: { it: ${store} }`, PATH)).toThrow(
      mistakes(`stores.it${place}: must be of the type "file" or "s3"`),
    );
  });
});

describe("the default store", () => {
  it("is the first one that accepts imports when none is named", () => {
    const text = `
      stores:
        c: { type: file, path: /c, disabled: true }
        b: { type: s3, bucket: images, read_only: true }
        z: { type: file, path: /z }
        a: { type: file, path: /a }
    `;

    expect(parseConfig(text, PATH).defaultStore).toBe("z");
  });

  it.each([
    ["disabled: true", "disabled"],
    ["read_only: true", "read_only"],
    ["read_only: true, disabled: true", "disabled"],
  ])("is refused when it is named and has { %s }", (setting, state) => {
    const text = `
      default_store: a
      stores: { a: { type: file, path: /a, ${setting} }, b: { type: file, path: /b } }
    `;

    expect(() => parseConfig(text, PATH)).toThrow(
      mistakes(`default_store: "a" does not accept imports: it is ${state}`),
    );
  });

  it.each(["disabled", "read_only"])(
    "is missing when no store accepts imports, the last one being %s",
    (setting) => {
      const text = `
      stores:
        a: { type: file, path: /a, disabled: true }
        b: { type: file, path: /b, ${setting}: true }
    `;

      expect(() => parseConfig(text, PATH)).toThrow(
        mistakes("stores: at least one must be neither disabled nor read_only"),
      );
    },
  );
});

describe("two stores", () => {
  it.each([
    [
      "one directory",
      "{ type: file, path: /srv/x }",
      "{ type: file, path: /srv/y/../x/ }",
      'path: "/srv/x" is already the path of "a"',
    ],
    [
      "one directory, one of them disabled",
      "{ type: file, path: /srv/x }",
      "{ type: file, path: /srv/x, disabled: true }",
      'path: "/srv/x" is already the path of "a"',
    ],
    [
      "one bucket",
      "{ type: s3, bucket: images }",
      "{ type: s3, bucket: images, region: eu-west-1 }",
      'prefix: "" of bucket "images" is already the place of "a"',
    ],
    [
      "one prefix of one server",
      "{ type: s3, bucket: images, prefix: x, endpoint: 'http://s3:80' }",
      "{ type: s3, bucket: images, prefix: x/, endpoint: 'http://S3/', path_style: false }",
      'prefix: "x/" of bucket "images" is already the place of "a"',
    ],
    [
      "one prefix inside the other's",
      "{ type: s3, bucket: images, prefix: x }",
      "{ type: s3, bucket: images, prefix: x/y }",
      'prefix: "x/y/" of bucket "images" is inside "x/" of "a"',
    ],
    [
      "one prefix around the other's",
      "{ type: s3, bucket: images, prefix: x }",
      "{ type: s3, bucket: images }",
      'prefix: "" of bucket "images" contains "x/" of "a"',
    ],
  ])("may not share %s", (_, one, other, mistake) => {
    expect(() => parseConfig(`stores: { a: ${one}, b: ${other} }`, PATH)).toThrow(
      mistakes(`stores.b.${mistake}`),
    );
  });

  it.each([
    ["buckets", "{ type: s3, bucket: images }", "{ type: s3, bucket: images-too }"],
    [
      "servers",
      "{ type: s3, bucket: images }",
      "{ type: s3, bucket: images, endpoint: 'http://s3' }",
    ],
    [
      "prefixes",
      "{ type: s3, bucket: images, prefix: x }",
      "{ type: s3, bucket: images, prefix: xy }",
    ],
    ["kinds", "{ type: file, path: /images }", "{ type: s3, bucket: images }"],
  ])("of different %s stand side by side", (_, one, other) => {
    const { stores } = parseConfig(`stores: { a: ${one}, b: ${other} }`, PATH);

    expect(Object.keys(stores)).toEqual(["a", "b"]);
  });
});

describe("mistakes in stores", () => {
  it("are reported all at once, also those between stores and the default", () => {
    const text = `
      default_store: a
      stores:
        a: { type: file, path: /a, read_only: true }
        b: { type: file, path: /a }
        c: { type: file, path: /a, mode: "0666" }
        d: { type: s3, bucket: images, secret_key: sesame }
        e: { type: tape }
        f: { type: s3, bucket: images, prefix: x }
        g: { type: s3, bucket: images, prefix: x/y }
      staging: { time_to_live: soon }
    `;

    expect(() => parseConfig(text, PATH)).toThrow(
      mistakes(
        'stores.c.mode: must let its owner read and no user write, not "0666": published files are read-only',
        `stores.d: "secret_key" must not be in this file: ${CHAIN}`,
        'stores.e.type: must be of the type "file" or "s3"',
        'staging.time_to_live: must be a duration such as 15s, not "soon"',
        'default_store: "a" does not accept imports: it is read_only',
        'stores.b.path: "/a" is already the path of "a"',
        'stores.g.prefix: "x/y/" of bucket "images" is inside "x/" of "f"',
      ),
    );
  });
});
