//! Which addresses a sink may have: public ones, unless its configuration says otherwise.
//!
//! *Invariants.* A name is resolved once an attempt, by the connection itself, and the connection goes to exactly the addresses
//! that were checked: there is no second look-up that could answer differently.
//!
//! *Source.* IANA IPv4 and IPv6 special-purpose address registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why an attempt was not let out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{host}` is {address}, which is not a public address: set `allow_private` to true if that is meant")]
pub struct Refused {
    /// The host of the sink's `url`.
    pub host: String,
    /// The first address found.
    pub address: IpAddr,
}

/// Says whether an address is one that anybody on the internet could have.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)          // this network, private, loopback
            | (100, 64..=127, _)      // carrier-grade NAT
            | (169, 254, _)           // link-local, and the metadata services of clouds
            | (172, 16..=31, _)       // private
            | (192, 0, 0 | 2)         // protocol assignments, documentation
            | (192, 88, 99)           // relays of 6to4, withdrawn
            | (192, 168, _)           // private
            | (198, 18 | 19, _)       // benchmarks
            | (198, 51, 100)          // documentation
            | (203, 0, 113)           // documentation
            | (224.., _, _) // multicast, reserved, broadcast
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [a, b, c, ..] = address.segments();
    let low_v4 = || {
        let [.., w, x, y, z] = address.octets();
        Ipv4Addr::new(w, x, y, z)
    };
    match (a, b, c) {
        // NAT64 leads to the IPv4 address in the last 32 bits.
        (0x64, 0xff9b, 0) => address.segments()[3..6] == [0, 0, 0] && is_public_v4(low_v4()),
        // Protocol assignments, Teredo and ORCHID among them; documentation; 6to4; documentation again.
        (0x2001, 0..=0x01ff, _) | (0x2001, 0x0db8, _) | (0x2002, _, _) | (0x3fff, 0..=0x0fff, _) => false,
        // Only 2000::/3 is given out: loopback, link-local, unique local, multicast and the rest lie outside.
        _ => a & 0xe000 == 0x2000,
    }
}

/// Resolves names and lets through what may be connected to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard {
    pub(crate) allow_private: bool,
}

impl Guard {
    /// Checks a host that is an address itself, which no resolver is asked about; a name passes.
    pub(crate) fn check_literal(self, host: &str) -> Result<(), Refused> {
        let text = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match text.parse::<IpAddr>() {
            Ok(address) => self.filter(host, &[SocketAddr::new(address, 0)]).map(|_| ()),
            Err(_) => Ok(()),
        }
    }

    fn filter(self, host: &str, found: &[SocketAddr]) -> Result<Vec<SocketAddr>, Refused> {
        let allowed: Vec<_> =
            found.iter().copied().filter(|address| self.allow_private || is_public(address.ip())).collect();
        match found.first() {
            Some(first) if allowed.is_empty() => Err(Refused { host: host.to_owned(), address: first.ip() }),
            _ => Ok(allowed),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed = guard.filter(name.as_str(), &found)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().expect("is an address"))
    }

    #[test]
    fn public_addresses_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2001:200::1",
        ] {
            assert!(public(text), "{text}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        for text in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.1",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "192.168.255.255",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:0:1::808:808",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
            "8000::1",
        ] {
            assert!(!public(text), "{text}");
        }
    }

    #[test]
    fn literal_hosts_are_checked_in_brackets_too() {
        let guard = Guard { allow_private: false };
        for host in ["127.0.0.1", "[::1]", "[::ffff:10.0.0.1]"] {
            let refused = guard.check_literal(host).expect_err("is not public").to_string();
            assert!(refused.contains(host) && refused.contains("`allow_private`"), "{refused}");
            Guard { allow_private: true }.check_literal(host).expect("is allowed");
        }
        guard.check_literal("hooks.example.com").expect("is for the resolver");
    }

    #[test]
    fn only_the_public_addresses_of_a_name_are_connected_to() {
        let guard = Guard { allow_private: false };
        let mixed: Vec<SocketAddr> =
            ["10.0.0.1:0", "8.8.8.8:0", "[::1]:0"].iter().map(|a| a.parse().expect("is one")).collect();
        assert_eq!(guard.filter("h", &mixed), Ok(vec![mixed[1]]));
        assert_eq!(guard.filter("h", &mixed[..1]), Err(Refused { host: "h".to_owned(), address: mixed[0].ip() }));
        assert_eq!(Guard { allow_private: true }.filter("h", &mixed), Ok(mixed));
    }

    proptest! {
        #[test]
        fn mapping_an_address_changes_nothing(bits: u32) {
            let address = Ipv4Addr::from(bits);
            prop_assert_eq!(is_public(IpAddr::V4(address)), is_public(IpAddr::V6(address.to_ipv6_mapped())));
        }

        #[test]
        fn what_the_standard_library_knows_as_special_is_not_public(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let special = address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast()
                || address.is_broadcast() || address.is_documentation() || address.is_unspecified();
            prop_assert!(!(special && is_public(IpAddr::V4(address))));
        }
    }
}
