import { isIP } from "node:net";
import ipaddr from "ipaddr.js";
import { ImportError } from "../domain/import-failure.ts";
import type { EgressRules } from "../domain/web-settings.ts";
import { embeddedAddresses, type Address } from "./embedded-addresses.ts";
import { displayedUrl } from "./web-url.ts";

// The services from which a machine in a cloud gets its credentials. Some have public addresses,
// and a wide CIDR would allow others.
const METADATA_HOSTS = [
  "metadata",
  "metadata.google.internal",
  "metadata.goog",
  "metadata.azure.internal",
  "metadata.tencentyun.com",
  "instance-data",
  "instance-data.ec2.internal",
];
const METADATA_ADDRESSES = [
  "169.254.169.254",
  "169.254.170.2",
  "169.254.0.23",
  "168.63.129.16",
  "100.100.100.200",
  "192.0.0.192",
  "fd00:ec2::254",
  "fd20:ce::254",
].map((text) => ipaddr.parse(text));

// All IPv6 addresses for public use. Other addresses are not public, even if they have no purpose
// yet.
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR("2000::/3");

type Network = ReturnType<typeof ipaddr.parseCIDR>;

/**
 * Decides which servers a download may reach. It resolves nothing: a name is judged as it is
 * written, and an address before a connection to it is made.
 */
export class EgressPolicy {
  readonly #rules: EgressRules;
  readonly #networks: readonly Network[];

  constructor(rules: EgressRules) {
    this.#rules = rules;
    this.#networks = rules.allowedNetworks.map((network) => ipaddr.parseCIDR(network));
  }

  /**
   * Judges a URL before a request is sent to it: the given one, and each one that it redirects to.
   *
   * @throws ImportError `SourceForbidden`
   */
  requireUrl(url: URL): void {
    const mistake = this.#mistakeInUrl(url);
    if (mistake === undefined) return;
    const { rule, setting } = mistake;
    throw new ImportError(
      "SourceForbidden",
      `Cannot download ${displayedUrl(url)}: ${rule}`,
      setting === undefined ? {} : { hint: hintOf(setting) },
    );
  }

  /**
   * Judges an address before a connection to it is made.
   *
   * @param host - the name that has the address, or the address itself
   * @throws ImportError `SourceForbidden`; its message does not disclose the address of a name
   */
  requireAddress(host: string, address: string): void {
    const kind = this.#forbiddenKind(address);
    if (kind === undefined) return;
    const what = isIP(host) === 0 ? "leads to" : "is";
    throw new ImportError(
      "SourceForbidden",
      `Cannot connect to "${host}": it ${what} an address that is not public (${kind})`,
      { hint: hintOf("allowed_networks") },
    );
  }

  #mistakeInUrl(url: URL): Mistake | undefined {
    const { schemes, ports } = this.#rules;
    const scheme = url.protocol.slice(0, -1);
    if (!schemes.includes(scheme)) {
      return { rule: `its scheme must be one of ${schemes.join(", ")}`, setting: "schemes" };
    }
    if (url.username !== "" || url.password !== "") {
      return { rule: "it must not contain a user name or password", setting: undefined };
    }
    if (!ports.includes(effectivePort(url))) {
      return { rule: `its port must be one of ${ports.join(", ")}`, setting: "ports" };
    }
    const host = hostOf(url);
    if (isIP(host) !== 0) {
      const kind = this.#forbiddenKind(host);
      if (kind !== undefined) {
        return { rule: `its address is not public (${kind})`, setting: "allowed_networks" };
      }
    }
    return this.#mistakeInName(host.replace(/\.$/, "").toLowerCase());
  }

  #mistakeInName(name: string): Mistake | undefined {
    const { allowedHosts, deniedHosts } = this.#rules;
    if (name === "") return { rule: "it has no host", setting: undefined };
    const isNamedBy = (pattern: string): boolean => isNamed(name, pattern);
    if (METADATA_HOSTS.some(isNamedBy)) {
      return { rule: "its host is not allowed", setting: undefined };
    }
    if (deniedHosts.some(isNamedBy)) {
      return { rule: "its host is not allowed", setting: "denied_hosts" };
    }
    if (allowedHosts.length === 0 || allowedHosts.some(isNamedBy)) return undefined;
    return { rule: "its host is not one of the allowed ones", setting: "allowed_hosts" };
  }

  /** The kind of an address that may not be reached; undefined for one that may. */
  #forbiddenKind(text: string): string | undefined {
    const embedded = embeddedAddresses(text);
    const whole = ipaddr.parse(text);
    if ([whole, ...embedded].some((each) => this.#isMetadata(each))) return "metadata service";
    if (this.#isAllowed(whole)) return undefined;
    const forbidden = embedded.find((each) => !isPublic(each) && !this.#isAllowed(each));
    return forbidden === undefined ? undefined : kindOf(forbidden);
  }

  #isMetadata(address: Address): boolean {
    const text = address.toString();
    if (!METADATA_ADDRESSES.some((each) => each.toString() === text)) return false;
    // Only the exact address in the configuration allows it.
    return !this.#networks.some(
      ([network, bits]) => network.toString() === text && bits === network.toByteArray().length * 8,
    );
  }

  #isAllowed(address: Address): boolean {
    return this.#networks.some(
      ([network, bits]) => network.kind() === address.kind() && address.match(network, bits),
    );
  }
}

/** A rule that a URL breaks, and the setting in `sources.web` that makes the rule. */
interface Mistake {
  readonly rule: string;
  /** Undefined if no setting allows such a URL. */
  readonly setting:
    "schemes" | "ports" | "allowed_networks" | "allowed_hosts" | "denied_hosts" | undefined;
}

function hintOf(setting: NonNullable<Mistake["setting"]>): string {
  const change = setting === "denied_hosts" ? "remove the host from" : "allow it in";
  return `Use another URL, or ${change} \`sources.web.${setting}\` of the worker's configuration.`;
}

function isPublic(address: Address): boolean {
  if (address.range() !== "unicast") return false;
  return !(address instanceof ipaddr.IPv6) || address.match(GLOBAL_UNICAST);
}

function kindOf(address: Address): string {
  const range = address.range();
  return range === "unicast" ? "reserved" : range;
}

/**
 * True if a pattern, `example.org` or `*.example.org`, matches a name in lower case without a final
 * dot.
 */
export function isNamed(name: string, pattern: string): boolean {
  return pattern.startsWith("*.") ? name.endsWith(pattern.slice(1)) : name === pattern;
}

function effectivePort({ port, protocol }: URL): number {
  if (port !== "") return Number(port);
  return protocol === "https:" ? 443 : 80;
}

/** The host of a URL without the brackets of IPv6. */
function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[(.*)\]$/, "$1");
}
