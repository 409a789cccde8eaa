import type { LookupAddress } from "node:dns";
import { inspect } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import type { NameLookup } from "../../src/sources/checked-connector.ts";
import { WebSource, type WebSourceSettings } from "../../src/sources/web-source.ts";
import { ConnectProxy, type ProxyBehaviour } from "../support/connect-proxy.ts";
import { failureOf } from "../support/failure-of.ts";
import {
  honest,
  HostileOrigin,
  type Behaviour,
  type OriginOptions,
} from "../support/hostile-origin.ts";
import { ORIGIN_CERTIFICATE } from "../support/origin-certificate.ts";

const BYTES = Buffer.from("the bytes of an image");

const SETTINGS: WebSourceSettings = {
  schemes: ["http", "https"],
  ports: [80, 443],
  allowedNetworks: [],
  allowedHosts: [],
  deniedHosts: [],
  connectTimeoutMs: 10_000,
  headerTimeoutMs: 10_000,
  idleTimeoutMs: 10_000,
  minimumRate: 1,
};

/** A name service where every name has these addresses. */
function knowing(...addresses: readonly string[]): NameLookup {
  return (_host, _options, done) => {
    done(
      null,
      addresses.map((address): LookupAddress => ({
        address,
        family: address.includes(":") ? 6 : 4,
      })),
    );
  };
}

/**
 * An origin that is reached only through a proxy: no route leads to the address of its name.
 */
async function behindProxy(
  behaviour: Behaviour,
  options: OriginOptions & ProxyBehaviour = {},
): Promise<{ origin: HostileOrigin; proxy: ConnectProxy }> {
  const origin = await HostileOrigin.start(behaviour, options);
  return { origin, proxy: await ConnectProxy.start(origin.port, options) };
}

async function fetchText(url: string, settings: Partial<WebSourceSettings>): Promise<string> {
  const web = new WebSource({ ...SETTINGS, ...settings });
  const download = await web.open({ url, maxBytes: 1000, signal: new AbortController().signal });
  onTestFinished(() => download[Symbol.asyncDispose]());
  const buffer = Buffer.alloc(1000);
  let length = 0;
  for (;;) {
    const lengthBytes = await download.read(buffer.subarray(length));
    if (lengthBytes === 0) return buffer.toString("utf8", 0, length);
    length += lengthBytes;
  }
}

describe("a download through sources.web.proxy", () => {
  it("sends the checked address to the proxy, and the name to the origin alone", async () => {
    const { origin, proxy } = await behindProxy(honest(BYTES));
    const settings = { proxy: { url: proxy.url, exceptions: [] }, lookup: knowing("8.8.8.8") };

    expect(await fetchText("http://origin.example/disk.img", settings)).toBe(BYTES.toString());

    expect(proxy.targets).toEqual(["8.8.8.8:80"]);
    expect(proxy.others).toEqual([]);
    expect(origin.requests[0]?.headers["host"]).toBe("origin.example");
    expect(Object.keys(origin.requests[0]?.headers ?? {})).not.toContain("proxy-authorization");
  });

  it("sends an IPv6 address in brackets", async () => {
    const { proxy } = await behindProxy(honest(BYTES));
    const settings = {
      proxy: { url: proxy.url, exceptions: [] },
      lookup: knowing("2001:4860::8888"),
    };

    await fetchText("http://origin.example/", settings);

    expect(proxy.targets).toEqual(["[2001:4860::8888]:80"]);
  });

  it("compares the certificate with the name of the origin", async () => {
    const { proxy } = await behindProxy(honest(BYTES), { tls: ORIGIN_CERTIFICATE });
    const settings = {
      proxy: { url: proxy.url, exceptions: [] },
      lookup: knowing("8.8.8.8"),
      authorities: ORIGIN_CERTIFICATE.cert,
    };

    expect(await fetchText("https://origin.example/", settings)).toBe(BYTES.toString());
    expect(await failureOf(fetchText("https://other.example/", settings))).toMatchObject({
      code: "SourceRefused",
      message: expect.stringContaining("certificate is for other hosts") as string,
    });
    expect(proxy.targets).toEqual(["8.8.8.8:443", "8.8.8.8:443"]);
  });

  it.each([
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.1",
    "0177.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "0.0.0.0",
    "169.254.169.254",
    "[fd00::1]",
    "100.64.0.1",
    "10.0.0.1",
    "metadata.google.internal",
  ])("never sends %s to the proxy, neither from a URL nor after a redirect", async (host) => {
    const redirecting: Behaviour = async (exchange) => {
      exchange.head(302, { location: `http://${host}/`, "content-length": 0 });
    };
    const { proxy } = await behindProxy(redirecting);
    const settings = { proxy: { url: proxy.url, exceptions: [] }, lookup: knowing("8.8.8.8") };

    expect(await failureOf(fetchText(`http://${host}/`, settings))).toMatchObject({
      code: "SourceForbidden",
    });
    expect(proxy.targets).toEqual([]);
    expect(await failureOf(fetchText("http://origin.example/", settings))).toMatchObject({
      code: "SourceForbidden",
    });
    expect(proxy.targets).toEqual(["8.8.8.8:80"]);
  });

  it.each([
    ["a private address", ["10.0.0.1"]],
    ["a private address beside others", ["8.8.8.8", "10.0.0.1"]],
    ["an address that is hidden in IPv6", ["::ffff:169.254.169.254"]],
  ])("never uses the proxy for a name with %s", async (_, addresses) => {
    const { proxy } = await behindProxy(honest(BYTES));
    const settings = { proxy: { url: proxy.url, exceptions: [] }, lookup: knowing(...addresses) };

    expect(await failureOf(fetchText("http://origin.example/", settings))).toMatchObject({
      code: "SourceForbidden",
    });
    expect(proxy.targets).toEqual([]);
  });

  it("sends its credentials to the proxy alone", async () => {
    const credentials = "me:s3cret:with colon";
    const { origin, proxy } = await behindProxy(honest(BYTES), { credentials });
    const settings = {
      proxy: { url: proxy.url, credentials, exceptions: [] },
      lookup: knowing("8.8.8.8"),
    };

    await fetchText("http://origin.example/", settings);

    expect(inspect(origin.requests)).not.toContain(Buffer.from(credentials).toString("base64"));
    const others = { ...settings, proxy: { ...settings.proxy, credentials: "me:wrong-s3cret" } };
    const failure = await failureOf(fetchText("http://origin.example/", others));
    expect(failure).toMatchObject({
      code: "SourceRefused",
      message: expect.stringContaining("it requires other credentials (407)") as string,
      hint: expect.stringContaining("`sources.web.proxy_credentials_file`") as string,
    });
    expect(inspect(failure)).not.toContain("s3cret");
  });

  it.each([
    [403, "SourceRefused"],
    [405, "SourceRefused"],
    [502, "SourceUnavailable"],
    [503, "SourceUnavailable"],
  ] as const)("names the proxy in its failure when the proxy returns %i", async (status, code) => {
    const { proxy } = await behindProxy(honest(BYTES), { status });
    const settings = { proxy: { url: proxy.url, exceptions: [] }, lookup: knowing("8.8.8.8") };

    expect(await failureOf(fetchText("http://origin.example/", settings))).toMatchObject({
      code,
      message: expect.stringContaining("`sources.web.proxy`") as string,
      hint: expect.stringContaining("`sources.web.proxy`") as string,
    });
  });

  it("is retried when the proxy does not respond", async () => {
    const { proxy } = await behindProxy(honest(BYTES));
    const { url } = proxy;
    await proxy.stop();
    const settings = { proxy: { url, exceptions: [] }, lookup: knowing("8.8.8.8") };

    expect(await failureOf(fetchText("http://origin.example/", settings))).toMatchObject({
      code: "SourceUnavailable",
      message: expect.stringContaining("the proxy of `sources.web.proxy`") as string,
    });
  });

  it.each([
    ["on this machine", "127.0.0.1", []],
    ["of a name that is an exception", "origin.example", ["origin.example"]],
    ["of a name below an exception", "origin.example", ["*.example"]],
    ["in a network that is an exception", "origin.example", ["127.0.0.0/8"]],
  ])("does not use the proxy for an origin %s", async (_, host, exceptions) => {
    const { origin, proxy } = await behindProxy(honest(BYTES));
    const settings = {
      proxy: { url: proxy.url, exceptions },
      lookup: knowing("127.0.0.1"),
      allowedNetworks: ["127.0.0.0/8"],
      ports: [origin.port],
    };

    expect(await fetchText(origin.url("/", host), settings)).toBe(BYTES.toString());
    expect(proxy.targets).toEqual([]);
  });
});
