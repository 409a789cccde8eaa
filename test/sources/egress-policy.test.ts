import { describe, expect, it } from "vitest";
import type { EgressRules } from "../../src/domain/web-settings.ts";
import { EgressPolicy } from "../../src/sources/egress-policy.ts";
import { failureOf } from "../support/failure-of.ts";

const DEFAULTS: EgressRules = {
  schemes: ["http", "https"],
  ports: [80, 443],
  allowedNetworks: [],
  allowedHosts: [],
  deniedHosts: [],
};

function judge(url: string, rules: Partial<EgressRules> = {}): void {
  new EgressPolicy({ ...DEFAULTS, ...rules }).requireUrl(new URL(url));
}

function reach(address: string, rules: Partial<EgressRules> = {}, host = address): void {
  new EgressPolicy({ ...DEFAULTS, ...rules }).requireAddress(host, address);
}

const forbidden = expect.objectContaining({ code: "SourceForbidden" }) as object;

describe("requireUrl()", () => {
  it.each([
    "http://example.org/disk.img",
    "https://example.org/disk.img",
    "https://example.org:443/disk.img?signature=1",
    "http://8.8.8.8/disk.img",
    "http://[2606:4700::1111]/disk.img",
    "http://example.org./disk.img",
    // Names that only look like numbers.
    "http://3m.com/",
    "http://0xdeadbeef.com/",
  ])("allows %s", (url) => {
    expect(() => {
      judge(url);
    }).not.toThrow();
  });

  it.each([
    // Loopback in every spelling.
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0x7f000001/",
    "http://0177.1/",
    "http://017700000001/",
    "http://0x7f.0.0.0x1/",
    "http://127.0.0.1./",
    "http://%31%32%37.0.0.1/",
    "http://127。0。0。1/",
    "http://①②⑦.⓪.⓪.①/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b:1::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    "http://[2001:0:808:808:0:0:80ff:fffe]/",
    // The machine itself, and networks that are not public.
    "http://0.0.0.0/",
    "http://0/",
    "http://[::]/",
    "http://10.0.0.1/",
    "http://10.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://192.0.0.8/",
    "http://192.0.2.1/",
    "http://198.18.0.1/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[fd00::1]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[5f00::1]/",
    "http://[100::1]/",
    "http://[4000::1]/",
    // The services with the credentials of clouds.
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://168.63.129.16/",
    "http://100.100.100.200/",
    "http://192.0.0.192/",
    "http://[fd00:ec2::254]/",
    "http://metadata.google.internal/",
    "http://METADATA.google.internal./",
    "http://metadata/",
    // Other services of a host.
    "http://example.org:22/",
    "http://example.org:8080/",
    "https://example.org:6379/",
    // Credentials, and other schemes.
    "http://user@example.org/",
    "http://user:secret@example.org/",
    "http://:secret@example.org/",
    "ftp://example.org/",
    "file:///etc/passwd",
    "gopher://example.org/",
    "data:text/plain,hello",
  ])("refuses %s", (url) => {
    expect(() => {
      judge(url);
    }).toThrow(forbidden);
  });

  it("does not disclose the parts of a URL that may contain a secret", async () => {
    const failure = await failureOf(
      Promise.resolve().then(() => {
        judge("http://bob:p4ss@10.0.0.1/disk.img?token=s3cret");
      }),
    );

    expect(failure.message).toContain("http://10.0.0.1/disk.img");
    expect(failure.message).not.toMatch(/bob|p4ss|s3cret|token/);
  });

  it("refuses a denied host even if it is also allowed", () => {
    const rules = { allowedHosts: ["*.example.org"], deniedHosts: ["bad.example.org"] };

    expect(() => {
      judge("http://good.example.org/", rules);
    }).not.toThrow();
    // A public address is not one of the allowed names.
    const addresses = ["8.8.8.8", "[2606:4700::1111]"];
    const names = ["bad.example.org", "BAD.example.org.", "example.org", "example.com"];
    for (const host of [...names, ...addresses]) {
      expect(() => {
        judge(`http://${host}/`, rules);
      }).toThrow(forbidden);
    }
  });
});

describe("requireAddress()", () => {
  it("allows an allowed network in all spellings of its addresses", () => {
    const rules = { allowedNetworks: ["127.0.0.0/8", "fd12::/16"] };

    for (const address of ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "fd12::1"]) {
      expect(() => {
        reach(address, rules);
      }).not.toThrow();
    }
    for (const address of ["::1", "10.0.0.1", "fd13::1"]) {
      expect(() => {
        reach(address, rules);
      }).toThrow(forbidden);
    }
  });

  it("refuses metadata services in wide networks, and allows their exact addresses", () => {
    expect(() => {
      reach("169.254.169.254", { allowedNetworks: ["0.0.0.0/0"] });
    }).toThrow(forbidden);
    expect(() => {
      reach("169.254.169.254", { allowedNetworks: ["169.254.169.254/32"] });
    }).not.toThrow();
  });

  it("does not disclose the address of a name", async () => {
    const failure = await failureOf(
      Promise.resolve().then(() => {
        reach("10.20.30.40", {}, "intranet.example.org");
      }),
    );

    expect(failure.message).toContain('"intranet.example.org"');
    expect(failure.message).not.toContain("10.20.30.40");
  });
});
