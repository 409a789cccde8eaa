import ipaddr from "ipaddr.js";

/** An address of either family. */
export type Address = ipaddr.IPv4 | ipaddr.IPv6;

const WELL_KNOWN_NAT64 = ipaddr.IPv6.parseCIDR("64:ff9b::/96");
const COMPATIBLE = ipaddr.IPv6.parseCIDR("::/96");

/**
 * The addresses to which a packet for this one may go in the end: an IPv4 address can be written as
 * IPv6 in many ways (mapped, compatible, translated, NAT64, 6to4, Teredo), and gateways take it out
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
  // The server, and the client behind it with its bits turned over.
  if (range === "teredo")
    return [at(4), new ipaddr.IPv4(bytes.slice(12).map((byte) => byte ^ 0xff))];
  // Of NAT64 only the well-known prefix says where the address stands; the local-use one (RFC 8215)
  // is left as it is.
  const endsWithIt =
    range === "ipv4Mapped" ||
    range === "rfc6145" ||
    address.match(WELL_KNOWN_NAT64) ||
    (range === "unicast" && address.match(COMPATIBLE));
  return endsWithIt ? [at(12)] : [];
}
