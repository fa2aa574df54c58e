//! Which addresses a relay's name may lead to.
//!
//! A relay of one's own configuration may be anywhere. One that somebody else's record names is hostile input: without
//! this check, a record could make every sender talk to services inside the sender's own network. The name is resolved
//! once and the connection goes to the address that was checked, so a second answer of the name server changes nothing.
//!
//! Behind a proxy no name is resolved here, so that an address alone can be checked, and `localhost`. What a name leads
//! to is then inside the proxy's network and not inside the user's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use talkbox_core::{Error, ErrorKind, Result, Retry};
use tokio::net::lookup_host;

use crate::relay_url::RelayUrl;

/// Addresses of one name that are tried in turn: enough for both families and a dead machine, few enough that a name
/// cannot be used to knock on many doors.
const MAX_ADDRESSES: usize = 4;

/// Where a relay's URL comes from, and so where it may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The user's own configuration: anywhere.
    Configured,
    /// Somebody else, and the configuration allows such to lead to private addresses.
    ForeignAnywhere,
    /// Somebody else: global addresses, encrypted.
    Foreign,
}

/// Resolves a relay's name, once, to the addresses that it may lead to.
///
/// # Errors
/// `Unreachable` where the name does not resolve, or where all of its addresses are closed to it: then trying again does
/// not help.
pub(crate) async fn resolve(relay: &RelayUrl, trust: Trust) -> Result<Vec<SocketAddr>> {
    let (host, port) = relay.host_and_port();
    let found = lookup_host((host.as_str(), port)).await.map_err(|error| {
        Error::new(ErrorKind::Unreachable, "the relay's name does not resolve").with("relay", relay).source(error)
    })?;
    let allowed: Vec<_> =
        found.filter(|address| may_reach(address.ip(), trust, relay.is_encrypted())).take(MAX_ADDRESSES).collect();
    if allowed.is_empty() {
        return Err(closed_to_it(relay));
    }
    Ok(allowed)
}

/// Whether a relay is reached past a proxy: at an address of the user's own network, in the user's own configuration.
/// The proxy has no way there.
pub(crate) fn is_at_home(relay: &RelayUrl, trust: Trust) -> bool {
    trust == Trust::Configured && literal(&relay.host_and_port().0).is_some_and(|address| !is_global(address))
}

/// Checks a relay that a proxy will resolve.
///
/// # Errors
/// `Unreachable`, and trying again does not help, where it leads to a private address or is not encrypted, and somebody
/// else named it.
pub(crate) fn check_unresolved(relay: &RelayUrl, trust: Trust) -> Result<()> {
    let is_allowed = match literal(&relay.host_and_port().0) {
        Some(address) => may_reach(address, trust, relay.is_encrypted()),
        None => trust == Trust::Configured || relay.is_encrypted(),
    };
    if is_allowed { Ok(()) } else { Err(closed_to_it(relay)) }
}

fn closed_to_it(relay: &RelayUrl) -> Error {
    let why = "the relay is not configured here, and leads to a private address or is not encrypted";
    Error::new(ErrorKind::Unreachable, why).with("relay", relay).retry(Retry::No)
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
fn is_global(address: IpAddr) -> bool {
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
    async fn a_foreign_relay_leads_nowhere_private() {
        let loopback = RelayUrl::parse("wss://127.0.0.1:1").expect("a relay");
        let refused = resolve(&loopback, Trust::Foreign).await.expect_err("private");
        assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::Unreachable, false));
        assert_eq!(resolve(&loopback, Trust::ForeignAnywhere).await.expect("allowed").len(), 1);
        assert_eq!(resolve(&loopback, Trust::Configured).await.expect("allowed").len(), 1);
    }

    #[test]
    fn behind_a_proxy_what_is_private_by_its_look_is_refused() {
        let relay = |url: &str| RelayUrl::parse(url).expect(url);
        for private in ["wss://10.0.0.1", "wss://[::1]", "wss://localhost", "wss://a.localhost.", "wss://0x7f.1"] {
            let error = check_unresolved(&relay(private), Trust::Foreign).expect_err(private);
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, false));
            assert!(check_unresolved(&relay(private), Trust::Configured).is_ok());
            assert!(is_at_home(&relay(private), Trust::Configured), "{private}");
            assert!(!is_at_home(&relay(private), Trust::ForeignAnywhere), "{private}");
        }
        for (url, trust, is_allowed) in [
            ("wss://relay.example", Trust::Foreign, true),
            ("ws://relay.example", Trust::Foreign, false),
            ("ws://relay.example", Trust::ForeignAnywhere, false),
            ("ws://relay.example", Trust::Configured, true),
            ("wss://1.1.1.1", Trust::Foreign, true),
            ("ws://10.0.0.1", Trust::ForeignAnywhere, true),
        ] {
            assert_eq!(check_unresolved(&relay(url), trust).is_ok(), is_allowed, "{url} {trust:?}");
            assert!(url.contains("10.") || !is_at_home(&relay(url), trust));
        }
    }

    #[test]
    fn a_foreign_relay_is_encrypted_unless_it_is_at_home() {
        let (home, away) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([1, 1, 1, 1]));
        assert!(may_reach(home, Trust::ForeignAnywhere, false));
        assert!(!may_reach(away, Trust::ForeignAnywhere, false));
        assert!(!may_reach(away, Trust::Foreign, false));
        assert!(may_reach(away, Trust::Foreign, true));
    }
}
