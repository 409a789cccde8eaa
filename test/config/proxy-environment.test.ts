import { describe, expect, it } from "vitest";
import {
  directToLoopback,
  proxyBefore,
  withoutProxies,
} from "../../src/config/proxy-environment.ts";

const THIS_MACHINE = [
  "localhost:7233",
  "LOCALHOST:7233",
  "localhost.:7233",
  "temporal.localhost:7233",
  "127.0.0.1:7233",
  "127.8.9.10:7233",
  "[::1]:7233",
  "::1",
  "[::ffff:127.0.0.1]:7233",
  "0.0.0.0:7233",
  "[::]:7233",
  "unix:/run/temporal.sock",
  "unix:///run/temporal.sock",
  "dns:///localhost:7233",
  "ipv4:127.0.0.1:7233",
  "localhost",
];
const OTHERS = [
  "temporal.example:7233",
  "localhost.example:7233",
  "127.0.0.1.example:7233",
  "10.0.0.1:7233",
  "[2001:db8::1]:7233",
  "dns:///temporal.example:7233",
];

const DIRECT = { "grpc.enable_http_proxy": 0 };
const PROXY = { http_proxy: "http://me:secret@proxy.example:3128" };

describe("directToLoopback()", () => {
  it.each([undefined, ...THIS_MACHINE])("uses no proxy for %s", (address) => {
    const options = address === undefined ? {} : { address };

    expect(directToLoopback(options)).toEqual({ ...options, channelArgs: DIRECT });
  });

  it.each(OTHERS)("does not change the options for %s", (address) => {
    expect(directToLoopback({ address })).toEqual({ address });
  });
});

describe("proxyBefore()", () => {
  it("names the variable that grpc-js follows, and the proxy without its credentials", () => {
    const others = { https_proxy: "http://other:1", grpc_proxy: "http://nearest:2" };

    expect(proxyBefore("temporal.example:7233", PROXY)).toEqual({
      variable: "http_proxy",
      proxy: "proxy.example:3128",
    });
    expect(proxyBefore("temporal.example:7233", { ...PROXY, ...others })).toEqual({
      variable: "grpc_proxy",
      proxy: "nearest:2",
    });
  });

  it.each([
    ["a server on this machine", "127.0.0.1:7233", PROXY],
    ["no proxy", "temporal.example:7233", {}],
    ["a proxy in an empty variable", "temporal.example:7233", { http_proxy: "" }],
    ["a proxy that grpc-js can't use", "temporal.example:7233", { http_proxy: "socks5://a:1" }],
    ["a proxy that is not a URL", "temporal.example:7233", { http_proxy: "proxy:x:y" }],
    ["an exception", "temporal.example:7233", { ...PROXY, no_proxy: "a.org,.example" }],
    ["an exception by network", "10.1.2.3:7233", { ...PROXY, no_proxy: "10.0.0.0/8" }],
  ])("returns undefined with %s", (_, address, env) => {
    expect(proxyBefore(address, env)).toBeUndefined();
  });

  it("ignores exceptions for other hosts", () => {
    expect(proxyBefore("10.1.2.3:7233", { ...PROXY, no_proxy: "10.2.0.0/16,b" })).toBeDefined();
  });
});

describe("withoutProxies()", () => {
  it("drops every spelling, and nothing else", () => {
    const names = ["http_proxy", "HTTPS_PROXY", "All_Proxy", "no_proxy", "no_grpc_proxy", "PROXY"];
    const env = Object.fromEntries(names.map((name) => [name, "http://127.0.0.1:9"]));

    expect(withoutProxies({ ...env, PATH: "/bin", GOPROXY: "x", proxy_host: "y" })).toEqual({
      PATH: "/bin",
      GOPROXY: "x",
      proxy_host: "y",
    });
  });
});
