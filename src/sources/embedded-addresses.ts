import ipaddr from "ipaddr.js";

/** An address of either family. */
export type Address = ipaddr.IPv4 | ipaddr.IPv6;

const WELL_KNOWN_NAT64 = ipaddr.IPv6.parseCIDR("64:ff9b::/96");
const COMPATIBLE = ipaddr.IPv6.parseCIDR("::/96");

/**
 * The addresses that a packet for this one may finally reach. An IPv4 address can be written as
 * IPv6 in many ways (mapped, compatible, translated, NAT64, 6to4, Teredo), and gateways extract it
 * again.
 *
 * @param text - canonical, as URLs and name services give it; a zone is ignored
 */
export function embeddedAddresses(text: string): readonly Address[] {
  const address = ipaddr.parse(text);
  if (address instanceof ipaddr.IPv4) return [address];
  const embedded = inside(address);
  return embedded.length === 0 ? [address] : embedded;
}

function inside(address: ipaddr.IPv6): ipaddr.IPv4[] {
  const bytes = address.toByteArray();
  const at = (offset: number): ipaddr.IPv4 => new ipaddr.IPv4(bytes.slice(offset, offset + 4));
  const range = address.range();
  if (range === "6to4") return [at(2)];
  // The server, then the client with inverted bits.
  if (range === "teredo")
    return [at(4), new ipaddr.IPv4(bytes.slice(12).map((byte) => byte ^ 0xff))];
  // Only the well-known prefix of NAT64 has a fixed place for the address. The local-use one
  // (RFC 8215) is not read.
  const endsWithIt =
    range === "ipv4Mapped" ||
    range === "rfc6145" ||
    address.match(WELL_KNOWN_NAT64) ||
    (range === "unicast" && address.match(COMPATIBLE));
  return endsWithIt ? [at(12)] : [];
}
