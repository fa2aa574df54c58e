//! Addresses of peers that a service names, and those that it is told.
//!
//! What a service names is as foreign as anybody's record: it must not make this computer knock on doors inside its own
//! network. A name is left to whoever dials, who has to check what it resolves to.

use libp2p::{Multiaddr, multiaddr::Protocol};
use talkbox_net::is_global;

/// Most addresses of one pin, in either direction, by the API.
pub(crate) const MAX_ADDRESSES: usize = 20;
/// Most characters of one: a name of 253 with ports, certificates' hashes and a peer's id.
const MAX_TEXT: usize = 512;

/// The addresses among these texts that may be dialled, each once.
pub(crate) fn to_dial<'a>(texts: impl IntoIterator<Item = &'a str>, allow_private: bool) -> Vec<Multiaddr> {
    let mut known = Vec::new();
    for text in texts.into_iter().take(MAX_ADDRESSES).filter(|text| text.len() <= MAX_TEXT) {
        let Ok(address) = text.parse::<Multiaddr>() else { continue };
        if is_open(&address, allow_private) && !known.contains(&address) {
            known.push(address);
        }
    }
    known
}

/// The addresses among one's own that a service may know: an address of one's own network helps nobody there, and tells
/// more than it has to.
pub(crate) fn to_tell(own: Vec<Multiaddr>, allow_private: bool) -> Vec<Multiaddr> {
    own.into_iter().filter(|address| is_open(address, allow_private)).take(MAX_ADDRESSES).collect()
}

/// Whether an address begins with a host that is open, and goes on over something that is spoken here.
fn is_open(address: &Multiaddr, allow_private: bool) -> bool {
    let mut parts = address.iter();
    let is_host_open = match parts.next() {
        Some(Protocol::Ip4(address)) => allow_private || is_global(address.into()),
        Some(Protocol::Ip6(address)) => allow_private || is_global(address.into()),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) | Protocol::Dnsaddr(name)) => {
            allow_private || !is_local(&name)
        }
        _ => false,
    };
    // A relay, a socket of this computer, or a second host behind the first is none of what is dialled.
    let is_spoken = |part: Protocol<'_>| {
        matches!(
            part,
            Protocol::Tcp(_)
                | Protocol::Udp(_)
                | Protocol::QuicV1
                | Protocol::Tls
                | Protocol::Sni(_)
                | Protocol::Ws(_)
                | Protocol::Wss(_)
                | Protocol::P2p(_)
        )
    };
    is_host_open && parts.all(is_spoken)
}

/// Whether a name is of this computer or its network by its look.
fn is_local(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or_default();
    // An address as a name would pass the check of addresses by.
    matches!(last, "" | "localhost" | "local" | "internal" | "lan")
        || name.parse::<std::net::IpAddr>().is_ok()
        || last.bytes().all(|byte| byte.is_ascii_digit())
        || !name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWEZXjE41uU4EL2gpkAQeDXYok6wghN7wwNVPF5bwkaNfS";

    #[test]
    fn what_a_service_names_leads_to_nothing_private() {
        for private in [
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/10.0.0.1/tcp/4001",
            "/ip4/169.254.169.254/tcp/80",
            "/ip4/192.168.1.1/udp/4001/quic-v1",
            "/ip4/192.0.2.1/tcp/4001",
            "/ip6/::1/tcp/4001",
            "/ip6/fe80::1/tcp/4001",
            "/ip6/::ffff:10.0.0.1/tcp/4001",
            "/dns4/localhost/tcp/4001",
            "/dns/printer.local/tcp/4001",
            "/dns/metadata.internal/tcp/80",
            "/dns/router/tcp/80",
            "/dns4/127.0.0.1/tcp/4001",
            "/dns4/127.1/tcp/4001",
            "/dnsaddr/a.localhost.",
        ] {
            assert!(to_dial([private], false).is_empty(), "{private}");
            assert_eq!(to_dial([private], true).len(), 1, "{private}");
        }
        for global in [
            format!("/ip4/1.1.1.1/tcp/4001/p2p/{PEER}"),
            format!("/ip6/2606:4700::1/udp/4001/quic-v1/p2p/{PEER}"),
            format!("/dns4/pins.example/tcp/443/tls/ws/p2p/{PEER}"),
            "/dns4/pins.example/tcp/443/wss".to_owned(),
            "/dnsaddr/pins.example".to_owned(),
        ] {
            assert_eq!(to_dial([&*global], false).len(), 1, "{global}");
        }
    }

    #[test]
    fn what_is_not_spoken_is_passed_over_and_the_rest_is_taken() {
        let long = format!("/dns4/{}.example/tcp/1", "a".repeat(600));
        let relay = format!("/ip4/1.1.1.1/tcp/1/p2p/{PEER}/p2p-circuit");
        let two = "/ip4/1.1.1.1/tcp/1/ip4/127.0.0.1/tcp/2";
        let bad = ["", "x", "/ip4/1.1.1.1.1", "/unix/%2Frun%2Fs", "/memory/1", &long, &relay, two];
        assert!(to_dial(bad, true).is_empty());
        let mixed = bad.into_iter().chain(["/ip4/1.1.1.1/tcp/1", "/ip4/1.1.1.1/tcp/1", "/ip4/9.9.9.9/tcp/1"]);
        assert_eq!(to_dial(mixed, false).len(), 2);
        let many: Vec<_> = (0..100).map(|port| format!("/ip4/1.1.1.1/tcp/{port}")).collect();
        assert_eq!(to_dial(many.iter().map(String::as_str), false).len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_service_is_told_only_where_it_can_get() {
        let own = ["/ip4/192.168.1.7/tcp/4001", "/ip4/1.1.1.1/tcp/4001"].map(|text| text.parse().expect(text));
        let told: Vec<_> = to_tell(own.to_vec(), false).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["/ip4/1.1.1.1/tcp/4001"]);
        assert_eq!(to_tell(own.to_vec(), true).len(), 2);
    }
}
