//! Which addresses a name may lead to.
//!
//! What one's own configuration names may be anywhere. What somebody else's record names is hostile input: without this
//! check, a record could make every sender talk to services inside the sender's own network. The name is resolved once
//! and the connection goes to the address that was checked, so a second answer of the name server changes nothing.
//!
//! Behind a proxy no name is resolved here, so that an address alone can be checked, and `localhost`. What a name leads
//! to is then inside the proxy's network and not inside the user's.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use talkbox_core::{Error, ErrorKind, Result, Retry, async_trait};
use tokio::net::lookup_host;

use crate::endpoint::Endpoint;

/// Addresses of one name that are tried in turn: enough for both families and a dead machine, few enough that a name
/// cannot be used to knock on many doors.
const MAX_ADDRESSES: usize = 4;

/// Where an endpoint's name comes from, and so where it may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// The user's own configuration: anywhere.
    Configured,
    /// Somebody else, and the configuration allows such to lead to private addresses.
    ForeignAnywhere,
    /// Somebody else: global addresses, encrypted.
    Foreign,
}

/// Asks somebody which addresses a name has.
#[async_trait]
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses of a name, best first, each with this port. It is asked once for each connection, and never for a
    /// host that is an address already.
    ///
    /// # Errors
    /// Whatever keeps it from an answer.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// Asks as the system is set up to ask: files, name servers.
#[derive(Debug)]
pub(crate) struct System;

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host((host, port)).await?.collect())
    }
}

/// Resolves an endpoint's name, once, to the addresses that it may lead to.
///
/// # Errors
/// `Unreachable` where the name does not resolve, or where all of its addresses are closed to it: then trying again does
/// not help.
pub(crate) async fn resolve(resolver: &dyn Resolve, endpoint: &Endpoint, trust: Trust) -> Result<Vec<SocketAddr>> {
    let (host, port) = (endpoint.host(), endpoint.port());
    let found = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => resolver.resolve(host, port).await.map_err(|error| {
            let words = format!("the {}'s name does not resolve", endpoint.what());
            endpoint.error(ErrorKind::Unreachable, words).source(error)
        })?,
    };
    let is_open = |address: &SocketAddr| may_reach(address.ip(), trust, endpoint.is_encrypted());
    let allowed: Vec<_> = found.into_iter().filter(is_open).take(MAX_ADDRESSES).collect();
    if allowed.is_empty() {
        return Err(closed_to_it(endpoint));
    }
    Ok(allowed)
}

/// Whether an endpoint is reached past a proxy: at an address of the user's own network, in the user's own
/// configuration. The proxy has no way there.
pub(crate) fn is_at_home(endpoint: &Endpoint, trust: Trust) -> bool {
    trust == Trust::Configured && literal(endpoint.host()).is_some_and(|address| !is_global(address))
}

/// Checks an endpoint that a proxy will resolve.
///
/// # Errors
/// `Unreachable`, and trying again does not help, where it leads to a private address or is not encrypted, and somebody
/// else named it.
pub(crate) fn check_unresolved(endpoint: &Endpoint, trust: Trust) -> Result<()> {
    let is_allowed = match literal(endpoint.host()) {
        Some(address) => may_reach(address, trust, endpoint.is_encrypted()),
        None => trust == Trust::Configured || endpoint.is_encrypted(),
    };
    if is_allowed { Ok(()) } else { Err(closed_to_it(endpoint)) }
}

fn closed_to_it(endpoint: &Endpoint) -> Error {
    let what = endpoint.what();
    let why = format!("the {what} is not configured here, and leads to a private address or is not encrypted");
    endpoint.error(ErrorKind::Unreachable, why).retry(Retry::No)
}

/// The address that a host is without being resolved.
fn literal(host: &str) -> Option<IpAddr> {
    let name = host.strip_suffix('.').unwrap_or(host);
    if name == "localhost" || name.ends_with(".localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    host.parse().ok()
}

fn may_reach(address: IpAddr, trust: Trust, encrypted: bool) -> bool {
    match trust {
        Trust::Configured => true,
        Trust::ForeignAnywhere => encrypted || !is_global(address),
        Trust::Foreign => encrypted && is_global(address),
    }
}

/// Whether an address is one of the public internet (the registries of RFC 6890). Forms of IPv6 that carry an IPv4
/// address inside are judged by that or refused, since they may be translated to it.
///
/// For those who open connections by another way than this crate's, and are told by others where to.
///
/// ```
/// assert!(talkbox_net::is_global([1, 1, 1, 1].into()));
/// assert!(!talkbox_net::is_global([169, 254, 169, 254].into()));
/// ```
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(inside) => is_global_v4(inside),
            None => is_global_v6(address),
        },
    }
}

const fn is_global_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(matches!(a, 0 | 10 | 127 | 224..=255)
        || (a == 100 && b >= 64 && b < 128)
        || (a == 169 && b == 254)
        || (a == 172 && b >= 16 && b < 32)
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 192 && b == 168)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113))
}

const fn is_global_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Only 2000::/3 is given out; of it not 2001::/23 (Teredo and other protocols), documentation, and 6to4.
    a & 0xe000 == 0x2000 && !(a == 0x2001 && (b < 0x200 || b == 0xdb8)) && a != 0x2002 && !(a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::new("node", &url.parse().expect(url)).expect(url)
    }

    #[test]
    fn addresses_that_are_not_global() {
        for private in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
        ] {
            assert!(!is_global(private.parse().expect(private)), "{private}");
        }
        for global in ["1.1.1.1", "100.63.0.1", "172.32.0.1", "2606:4700::1111", "2001:4860::8888", "::ffff:1.1.1.1"] {
            assert!(is_global(global.parse().expect(global)), "{global}");
        }
    }

    #[tokio::test]
    async fn a_foreign_endpoint_leads_nowhere_private() {
        let loopback = endpoint("https://127.0.0.1:1");
        let refused = resolve(&System, &loopback, Trust::Foreign).await.expect_err("private");
        assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::Unreachable, false));
        assert_eq!(resolve(&System, &loopback, Trust::ForeignAnywhere).await.expect("allowed").len(), 1);
        assert_eq!(resolve(&System, &loopback, Trust::Configured).await.expect("allowed").len(), 1);
    }

    /// Whatever a URL may be written like: what counts is the address in the end.
    #[tokio::test]
    async fn no_spelling_of_a_private_address_is_foreign() {
        for private in [
            "https://127.0.0.1",
            "https://127.1",
            "https://0x7f.1",
            "https://2130706433",
            "https://017700000001",
            "https://0",
            "https://10.0.0.1",
            "https://１０.0.0.1",
            "https://169.254.169.254",
            "https://[::1]",
            "https://[::]",
            "https://[::ffff:127.0.0.1]",
            "https://[::ffff:a00:1]",
            "https://[64:ff9b::10.0.0.1]",
            "https://[fd00::1]",
            "https://localhost",
            "https://LOCALHOST",
            "wss://127.0.0.1",
        ] {
            let error = resolve(&System, &endpoint(private), Trust::Foreign).await.expect_err(private);
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, false), "{private}");
        }
        for plain in ["http://1.1.1.1", "ws://[2606:4700::1111]"] {
            resolve(&System, &endpoint(plain), Trust::Foreign).await.expect_err(plain);
        }
        resolve(&System, &endpoint("https://1.1.1.1"), Trust::Foreign).await.expect("global and encrypted");
    }

    /// One name server for all names.
    #[derive(Debug)]
    struct Everywhere(Vec<IpAddr>);

    #[async_trait]
    impl Resolve for Everywhere {
        async fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            Ok(self.0.iter().map(|address| SocketAddr::new(*address, port)).collect())
        }
    }

    #[tokio::test]
    async fn of_a_names_addresses_only_those_that_are_open_to_it_are_left() {
        let address = |text: &str| text.parse::<IpAddr>().expect(text);
        let mixed = Everywhere(vec![address("127.0.0.1"), address("1.1.1.1"), address("::1"), address("2606:4700::1")]);
        let node = endpoint("https://node.example:8443");
        let left = resolve(&mixed, &node, Trust::Foreign).await.expect("two are global");
        let expected: [SocketAddr; 2] =
            ["1.1.1.1:8443".parse().expect("one"), "[2606:4700::1]:8443".parse().expect("two")];
        assert_eq!(left, expected);
        let many = Everywhere(vec![address("1.1.1.1"); 100]);
        assert_eq!(resolve(&many, &node, Trust::Foreign).await.expect("all global").len(), MAX_ADDRESSES);
        resolve(&Everywhere(Vec::new()), &node, Trust::Configured).await.expect_err("a name without an address");
    }

    #[test]
    fn behind_a_proxy_what_is_private_by_its_look_is_refused() {
        for private in ["wss://10.0.0.1", "wss://[::1]", "wss://localhost", "wss://a.localhost.", "wss://0x7f.1"] {
            let error = check_unresolved(&endpoint(private), Trust::Foreign).expect_err(private);
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, false));
            assert!(check_unresolved(&endpoint(private), Trust::Configured).is_ok());
            assert!(is_at_home(&endpoint(private), Trust::Configured), "{private}");
            assert!(!is_at_home(&endpoint(private), Trust::ForeignAnywhere), "{private}");
        }
        for (url, trust, is_allowed) in [
            ("wss://relay.example", Trust::Foreign, true),
            ("ws://relay.example", Trust::Foreign, false),
            ("ws://relay.example", Trust::ForeignAnywhere, false),
            ("ws://relay.example", Trust::Configured, true),
            ("wss://1.1.1.1", Trust::Foreign, true),
            ("ws://10.0.0.1", Trust::ForeignAnywhere, true),
        ] {
            assert_eq!(check_unresolved(&endpoint(url), trust).is_ok(), is_allowed, "{url} {trust:?}");
            assert!(url.contains("10.") || !is_at_home(&endpoint(url), trust));
        }
    }

    #[test]
    fn a_foreign_endpoint_is_encrypted_unless_it_is_at_home() {
        let (home, away) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([1, 1, 1, 1]));
        assert!(may_reach(home, Trust::ForeignAnywhere, false));
        assert!(!may_reach(away, Trust::ForeignAnywhere, false));
        assert!(!may_reach(away, Trust::Foreign, false));
        assert!(may_reach(away, Trust::Foreign, true));
    }
}
