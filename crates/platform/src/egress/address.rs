//! Which addresses are not the public internet. Two tables, and nothing else decides.
//!
//! Sources: the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890 and its successors), and the clouds'
//! metadata services. Of IPv6 only 2000::/3 is handed out for global use (RFC 4291), so all the rest is refused.
//! An address that carries another one inside (mapped, NAT64, 6to4, Teredo) is refused whatever it carries: it could
//! reach what the tables refuse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const METADATA: &str = "a cloud's metadata service";
const PRIVATE: &str = "private";
const LOOPBACK: &str = "loopback";
const LINK_LOCAL: &str = "link-local";
const SHARED: &str = "shared with other customers of a provider";
const UNSPECIFIED: &str = "unspecified";
const MULTICAST: &str = "multicast";
const DOCUMENTATION: &str = "reserved for documentation";
const BENCHMARKS: &str = "reserved for benchmarks";
const RESERVED: &str = "reserved";
const CARRIER: &str = "an IPv6 address that stands for an IPv4 one";

/// (first address, prefix length, what it is); the first that fits counts.
const FORBIDDEN_V4: [(Ipv4Addr, u32, &str); 20] = [
    (Ipv4Addr::new(169, 254, 169, 254), 32, METADATA),
    (Ipv4Addr::new(169, 254, 170, 2), 32, METADATA),
    (Ipv4Addr::new(100, 100, 100, 200), 32, METADATA),
    (Ipv4Addr::new(192, 0, 0, 192), 32, METADATA),
    // Azure's, in the midst of public addresses.
    (Ipv4Addr::new(168, 63, 129, 16), 32, METADATA),
    (Ipv4Addr::new(0, 0, 0, 0), 8, UNSPECIFIED),
    (Ipv4Addr::new(10, 0, 0, 0), 8, PRIVATE),
    (Ipv4Addr::new(100, 64, 0, 0), 10, SHARED),
    (Ipv4Addr::new(127, 0, 0, 0), 8, LOOPBACK),
    (Ipv4Addr::new(169, 254, 0, 0), 16, LINK_LOCAL),
    (Ipv4Addr::new(172, 16, 0, 0), 12, PRIVATE),
    (Ipv4Addr::new(192, 0, 0, 0), 24, RESERVED),
    (Ipv4Addr::new(192, 0, 2, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(192, 88, 99, 0), 24, RESERVED),
    (Ipv4Addr::new(192, 168, 0, 0), 16, PRIVATE),
    (Ipv4Addr::new(198, 18, 0, 0), 15, BENCHMARKS),
    (Ipv4Addr::new(198, 51, 100, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(203, 0, 113, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(224, 0, 0, 0), 4, MULTICAST),
    // With 255.255.255.255, broadcast.
    (Ipv4Addr::new(240, 0, 0, 0), 4, RESERVED),
];

const FORBIDDEN_V6: [(Ipv6Addr, u32, &str); 18] = [
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128, METADATA),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128, METADATA),
    (Ipv6Addr::UNSPECIFIED, 128, UNSPECIFIED),
    (Ipv6Addr::LOCALHOST, 128, LOOPBACK),
    // Mapped, compatible, and RFC 2765's translated.
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, CARRIER),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96, CARRIER),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96, CARRIER),
    // NAT64, well-known and local.
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, CARRIER),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, CARRIER),
    // Teredo and 6to4.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, CARRIER),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, CARRIER),
    // All protocol assignments: ORCHID, benchmarks, AMT and the like.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, RESERVED),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, DOCUMENTATION),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, DOCUMENTATION),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, PRIVATE),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, LINK_LOCAL),
    // Site-local, deprecated by RFC 3879 and still routed here and there.
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, PRIVATE),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, MULTICAST),
];

/// Why an address is not the public internet; nothing when it is.
pub(super) fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => FORBIDDEN_V4
            .iter()
            .find(|(network, length, _)| (address.to_bits() ^ network.to_bits()) >> (32 - length) == 0)
            .map(|(_, _, what)| *what),
        IpAddr::V6(address) => FORBIDDEN_V6
            .iter()
            .find(|(network, length, _)| (address.to_bits() ^ network.to_bits()) >> (128 - length) == 0)
            .map(|(_, _, what)| *what)
            .or((address.segments()[0] >> 13 != 1).then_some(RESERVED)),
    }
}
