//! Which addresses the gate connects to: public ones, and those of networks that the operator lists.
//!
//! A name that somebody else may point anywhere (a shard of the blob store, a mirror) must not lead into the network
//! that the gate stands in. Whatever the resolver says is checked here, and connections are made to the checked
//! addresses, not to the name: there is nothing to be pointed elsewhere between the two (DNS rebinding).
//!
//! An address that the configuration itself names needs no leave, and `localhost` may be on loopback, where it always
//! is (RFC 6761 §6.3).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Special IPv4 networks (IANA's registry of RFC 6890): first address, bits, what they are.
const SPECIAL_V4: [(Ipv4Addr, u8, &str); 16] = [
    (Ipv4Addr::UNSPECIFIED, 8, "of this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared (carrier-grade NAT)"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "of 6to4 relays"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
    // Azure's wire server: public by number, but it answers every virtual machine about itself.
    (Ipv4Addr::new(168, 63, 129, 16), 32, "of the Azure platform"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];
/// Special networks within the IPv6 addresses that are routed at all, `2000::/3`.
const SPECIAL_V6: [(Ipv6Addr, u8, &str); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "for protocols"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "of 6to4"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation"),
];
/// What begins the IPv6 form of an IPv4 address behind a NAT64 (RFC 6052 §2.1).
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// The special addresses that may be connected to. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Reach {
    listed: Arc<[IpNet]>,
}

// === impl Reach ===

impl Reach {
    /// Public addresses and those of `listed`.
    pub(super) fn new(listed: &[IpNet]) -> Self {
        Self { listed: listed.into() }
    }

    /// Any address.
    pub(super) fn anywhere() -> Self {
        Self::new(&[Ipv4Net::default().into(), Ipv6Net::default().into()])
    }

    /// What keeps `address`, which `host` resolved to, from being connected to.
    pub(super) fn objection(&self, host: &str, address: IpAddr) -> Option<&'static str> {
        // Which IPv4 host an IPv6 address means is what counts, however it is written.
        let meant = embedded(address).map_or(address, IpAddr::V4);
        let kind = match meant {
            IpAddr::V4(address) => special_v4(address),
            IpAddr::V6(address) => special_v6(address),
        }?;
        let named = host.parse() == Ok(address) || (host == "localhost" && meant.is_loopback());
        let listed = self.listed.iter().any(|network| network.contains(&address) || network.contains(&meant));
        (!named && !listed).then_some(kind)
    }
}

/// The IPv4 address that stands in a mapped or a NAT64 address.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let behind_nat = || {
        let [start @ .., high, low] = address.segments();
        let bits = (u32::from(high) << 16) | u32::from(low);
        (start == NAT64).then(|| Ipv4Addr::from_bits(bits))
    };
    address.to_ipv4_mapped().or_else(behind_nat)
}

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let within = |(first, bits, _): &&(Ipv4Addr, u8, _)| {
        (address.to_bits() ^ first.to_bits()).leading_zeros() >= u32::from(*bits)
    };
    SPECIAL_V4.iter().find(within).map(|(_, _, kind)| *kind)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        return Some("loopback");
    }
    match address.segments()[0] {
        0x2000..=0x3fff => {}
        0xfc00..=0xfdff => return Some("private (unique local)"),
        0xfe80..=0xfebf => return Some("link-local"),
        0xff00..=0xffff => return Some("multicast"),
        _ => return Some("not a global address"),
    }
    let within = |(first, bits, _): &&(Ipv6Addr, u8, _)| {
        (address.to_bits() ^ first.to_bits()).leading_zeros() >= u32::from(*bits)
    };
    SPECIAL_V6.iter().find(within).map(|(_, _, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objections(reach: &Reach, host: &str, addresses: &[&str]) -> Vec<String> {
        let objection = |address: &&&str| reach.objection(host, address.parse().unwrap());
        addresses.iter().filter(|address| objection(address).is_some()).map(ToString::to_string).collect()
    }

    #[test]
    fn special_addresses_are_refused_in_each_of_their_forms_up_to_their_edges() {
        let special = [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "168.63.129.16",
            "224.0.0.1",
            "240.0.0.0",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fdff:ffff::1",
            "fe80::1",
            "febf:ffff::1",
            "fec0::1",
            "ff02::1",
        ];
        assert_eq!(objections(&Reach::default(), "pkgs.example.com", &special), special);
    }

    #[test]
    fn public_addresses_pass_up_to_the_edges_of_the_special_ones() {
        let public = [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:13.107.42.20",
            "64:ff9b::13.107.42.20",
            "2001:200::1",
            "2001:db9::1",
            "2620:1ec:21::20",
            "3ffe:ffff::1",
        ];
        assert_eq!(objections(&Reach::default(), "pkgs.example.com", &public), [""; 0]);
    }

    #[test]
    fn what_is_listed_or_named_by_the_configuration_passes_and_nothing_beside_it() {
        let reach = Reach::new(&["10.1.0.0/16".parse().unwrap(), "fd00:1::/32".parse().unwrap()]);
        let refused = |host: &str, addresses: &[&str]| objections(&reach, host, addresses);
        let nothing = [""; 0];
        assert_eq!(refused("a", &["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd00:1::7"]), nothing);
        assert_eq!(
            refused("a", &["10.2.0.1", "fd00:2::7", "127.0.0.1"]),
            ["10.2.0.1", "fd00:2::7", "127.0.0.1"]
        );
        assert_eq!(refused("localhost", &["127.0.0.1", "::1", "127.1.2.3"]), nothing);
        assert_eq!(refused("localhost", &["10.2.0.1", "::ffff:10.2.0.1"]), ["10.2.0.1", "::ffff:10.2.0.1"]);
        assert_eq!(refused("192.168.7.7", &["192.168.7.7"]), nothing);
        // Spellings that only the resolver takes for an address are names.
        assert_eq!(refused("127.1", &["127.0.0.1"]), ["127.0.0.1"]);
        assert_eq!(refused("localhost.example.com", &["127.0.0.1"]), ["127.0.0.1"]);
    }
}
