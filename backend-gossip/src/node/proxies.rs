//! Proxies that the operator trusts to say who their clients are.
//!
//! Behind a proxy all clients have its address, so that what is counted per address would be counted for all of them
//! together. A trusted one names the client in `X-Forwarded-For`; from anyone else that header means nothing.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use axum::http::HeaderMap;
use talkbox_core::{Error, ErrorKind};

/// Addresses with a common beginning, such as `10.0.0.0/8` or `fdaa::/16`; one address without a length is meant alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    address: IpAddr,
    bits: u32,
}

impl Subnet {
    /// The addresses of this machine.
    pub const fn loopback() -> [Self; 2] {
        [
            Self { address: IpAddr::V4(Ipv4Addr::LOCALHOST), bits: 8 },
            Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 },
        ]
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = |one: u128, other: u128, width: u32| {
            let from = width - self.bits;
            from < 128 && (one ^ other) >> from != 0
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => !differ(own.to_bits().into(), other.to_bits().into(), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => !differ(own.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || {
            Error::new(ErrorKind::ConfigInvalid, "a trusted proxy is an address or a subnet such as 10.0.0.0/8")
                .with("given", text)
        };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(|_| malformed())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        if bits > width { Err(malformed()) } else { Ok(Self { address, bits }) }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl serde::Serialize for Subnet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Subnet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Clients of which a trusted proxy says in no form that is read who they are: all of them count as one.
const NAMELESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Whose request it is that came from this address: the last in the chain that no trusted proxy is.
pub(crate) fn client(from: IpAddr, headers: &HeaderMap, trusted: &[Subnet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(address));
    if !is_trusted(from) {
        return from;
    }
    let named = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let chain: Vec<&str> = named.flat_map(|value| value.split(',')).map(str::trim).collect();
    let mut client = from;
    for hop in chain.iter().rev() {
        // What cannot be read was not written by a proxy that is trusted: the one that passed it on stands for it.
        let Some(address) = address_in(hop) else {
            return if client == from { NAMELESS } else { client };
        };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// An address as proxies write it: some with the port, and some of version 6 in brackets.
fn address_in(hop: &str) -> Option<IpAddr> {
    let address = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    address.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Whether somebody says that he passes the request on for another. Whoever does that without being trusted may be a proxy
/// on this machine, whose address then says nothing of where the client is.
pub(crate) fn is_passed_on(headers: &HeaderMap) -> bool {
    ["x-forwarded-for", "forwarded", "x-real-ip"].iter().any(|name| headers.contains_key(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn subnets_are_read_and_contain_what_begins_like_them() {
        let net = |text: &str| text.parse::<Subnet>().expect("a subnet");
        assert!(net("10.0.0.0/8").contains(ip("10.255.0.1")) && !net("10.0.0.0/8").contains(ip("11.0.0.1")));
        assert!(net("10.0.0.1").contains(ip("10.0.0.1")) && !net("10.0.0.1").contains(ip("10.0.0.2")));
        assert!(net("10.0.0.0/8").contains(ip("::ffff:10.1.1.1")));
        assert!(net("fdaa::/16").contains(ip("fdaa:1::1")) && !net("fdaa::/16").contains(ip("fdab::1")));
        assert!(net("0.0.0.0/0").contains(ip("1.1.1.1")) && !net("0.0.0.0/0").contains(ip("::1")));
        assert!(net("::/0").contains(ip("::1")));
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/x", "proxy"] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_names_its_client() {
        let trusted = ["10.0.0.0/8".parse().expect("a subnet")];
        let with = |from: &str, chain: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in chain {
                headers.append("x-forwarded-for", value.parse().expect("a value"));
            }
            client(ip(from), &headers, &trusted)
        };
        assert_eq!(with("192.0.2.1", &["1.1.1.1"]), ip("192.0.2.1"));
        assert_eq!(with("10.0.0.1", &[]), ip("10.0.0.1"));
        assert_eq!(with("10.0.0.1", &["1.1.1.1"]), ip("1.1.1.1"));
        assert_eq!(with("10.0.0.1", &["9.9.9.9, 1.1.1.1", "10.0.0.2"]), ip("1.1.1.1"), "the rest is the client's word");
        assert_eq!(with("10.0.0.1", &["1.1.1.1, nonsense, 10.0.0.3"]), ip("10.0.0.3"));
        for written in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:5151"] {
            assert_eq!(with("10.0.0.1", &[written]), ip("2001:db8::1"), "{written}");
        }
        assert_eq!(with("10.0.0.1", &["9.9.9.9, 1.1.1.1:5151"]), ip("1.1.1.1"));
        for nonsense in ["nonsense", "unknown", "1.1.1.1, ", "[1.1.1.1"] {
            assert_eq!(with("10.0.0.1", &[nonsense]), NAMELESS, "{nonsense}: it is not the proxy's own");
        }
    }
}
