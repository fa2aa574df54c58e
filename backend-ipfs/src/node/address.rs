//! Where a peer is: a multiaddr that ends with the id of the peer, `/ip4/192.0.2.7/tcp/4001/p2p/16Uiu2…`.

use std::{fmt, str::FromStr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use talkbox_core::{Error, ErrorKind, Locator, Result};

/// The scheme of locators of peers.
pub(crate) const SCHEME: &str = "ipfs";
/// Parts of a multiaddr beyond which it is nonsense: the longest usual one, over a relay, has nine.
const MAX_PARTS: usize = 12;

/// A peer, and where it can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerAddress {
    pub(crate) peer: PeerId,
    /// Without the id at its end.
    pub(crate) place: Multiaddr,
}

impl PeerAddress {
    /// The peer that a locator names.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub(crate) fn of(locator: &Locator) -> Result<Self> {
        if locator.scheme() != SCHEME {
            return Err(Error::new(ErrorKind::InvalidInput, "not a place on IPFS").with("locator", locator));
        }
        locator.rest().parse()
    }

    /// Whether this program can reach it: of its own addresses, those behind TLS are for browsers.
    pub(crate) fn is_dialled(&self) -> bool {
        is_dialled(&self.place)
    }

    /// It, as a locator.
    ///
    /// # Errors
    /// `InvalidInput` where it is longer than a locator can be.
    pub(crate) fn locator(&self) -> Result<Locator> {
        Locator::new(SCHEME, &self.to_string())
    }
}

impl FromStr for PeerAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &'static str| Error::new(ErrorKind::InvalidInput, why).with("address", text);
        let mut place: Multiaddr = text.parse().map_err(|error| {
            invalid("not an address of a peer such as `/ip4/192.0.2.7/tcp/4001/p2p/16Uiu2…`").source(error)
        })?;
        if place.iter().count() > MAX_PARTS {
            return Err(invalid("an address of this many parts leads nowhere"));
        }
        let Some(Protocol::P2p(peer)) = place.pop() else {
            return Err(invalid("the address has to end with the id of its peer, as in `…/p2p/16Uiu2…`"));
        };
        if place.is_empty() {
            return Err(invalid("the address names a peer and no place where it is"));
        }
        if place.iter().any(|part| matches!(part, Protocol::P2pCircuit)) {
            return Err(invalid("addresses over relays (`/p2p-circuit`) are not supported yet"));
        }
        if !is_dialled(&place) {
            return Err(invalid(
                "nobody can be dialled there: a peer is reached at `/tcp/PORT`, `/tcp/PORT/ws` or `/udp/PORT/quic-v1` \
                 of a host, and never over TLS",
            ));
        }
        Ok(Self { peer, place })
    }
}

/// Whether this program can reach a place, without the id of its peer: it speaks TCP, WebSocket without TLS, and QUIC.
fn is_dialled(place: &Multiaddr) -> bool {
    use Protocol::{Dns, Dns4, Dns6, Dnsaddr, Ip4, Ip6, QuicV1, Tcp, Udp, Ws};
    let parts: Vec<Protocol<'_>> = place.iter().collect();
    match parts.as_slice() {
        // A name in the DNS under which whole addresses stand, as those of the public DHT.
        [Dnsaddr(_)] => true,
        [Ip4(_) | Ip6(_) | Dns(_) | Dns4(_) | Dns6(_), rest @ ..] => match rest {
            [Tcp(0) | Udp(0), ..] => false,
            [Tcp(_)] | [Tcp(_), Ws(_)] | [Udp(_), QuicV1] => true,
            _ => false,
        },
        _ => false,
    }
}

/// What an address of one's own peer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To listen there.
    Listen,
    /// To be told to others: a proxy there may have what the peer itself has not, such as TLS.
    Tell,
}

/// Reads an address of one's own peer: a host, a port, and what is spoken there. Of half of one nobody could make anything,
/// and that would show only when nobody comes.
///
/// # Errors
/// `ConfigInvalid`, which says what it lacks.
pub(crate) fn own_place(text: &str, purpose: Purpose) -> Result<Multiaddr> {
    let place: Multiaddr = text.parse().map_err(|error| {
        Error::new(ErrorKind::ConfigInvalid, "not an address such as `/ip4/0.0.0.0/tcp/4001`").source(error)
    })?;
    let parts: Vec<Protocol<'_>> = place.iter().collect();
    match lack(&parts, purpose) {
        Some(why) => Err(Error::new(ErrorKind::ConfigInvalid, why)),
        None => Ok(place),
    }
}

/// What an address lacks, or has too much.
fn lack(parts: &[Protocol<'_>], purpose: Purpose) -> Option<&'static str> {
    use Protocol::{Dns, Dns4, Dns6, Ip4, Ip6, P2p, QuicV1, Sni, Tcp, Tls, Udp, Ws, Wss};
    let [Ip4(_) | Ip6(_) | Dns(_) | Dns4(_) | Dns6(_), rest @ ..] = parts else {
        return Some("an address begins with a host, as in `/ip4/192.0.2.7/…` or `/dns4/node.example/…`");
    };
    if let [.., P2p(_)] = rest {
        return Some("the id at its end is added by the peer itself: leave `/p2p/…` out");
    }
    match (rest, purpose) {
        ([Tcp(0) | Udp(0), ..], Purpose::Tell) => Some("nobody can be reached at port 0"),
        ([Tcp(_)] | [Tcp(_), Ws(_)] | [Udp(_), QuicV1], _) => None,
        ([Tcp(_), Wss(_)] | [Tcp(_), Tls, Ws(_)] | [Tcp(_), Tls, Sni(_), Ws(_)], Purpose::Tell) => None,
        ([Tcp(_), ..], _) => Some("this is not spoken over TCP: `/tcp/PORT` or `/tcp/PORT/ws` is"),
        ([Udp(_), ..], _) => Some("the address lacks what is spoken over UDP: `/udp/PORT/quic-v1`"),
        _ => Some("the address lacks a port, as in `…/tcp/4001`"),
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/p2p/{}", self.place, self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "16Uiu2HAm3aBGq5sdGKKmyHYVJWrJUvqLoC1HbmoaQEUTBJ2bHP8u";

    #[test]
    fn it_says_who_and_where() {
        for place in [
            "/ip4/127.0.0.1/tcp/4001",
            "/dns4/node.example/tcp/443/ws",
            "/ip6/::1/udp/1/quic-v1",
            "/dnsaddr/node.example",
        ] {
            let text = format!("{place}/p2p/{ID}");
            let address: PeerAddress = text.parse().expect(place);
            assert_eq!((address.to_string(), address.place.to_string()), (text, place.to_owned()));
            let locator = address.locator().expect("a locator");
            assert_eq!(PeerAddress::of(&locator).expect("the same"), address);
        }
    }

    #[test]
    fn an_own_place_has_a_host_a_port_and_what_is_spoken_there() {
        use Purpose::{Listen, Tell};
        for both in ["/ip4/192.0.2.7/tcp/4001", "/ip6/::1/udp/4001/quic-v1", "/dns4/node.example/tcp/4002/ws"] {
            for purpose in [Listen, Tell] {
                assert_eq!(own_place(both, purpose).expect(both).to_string(), both);
            }
        }
        for told in ["/dns4/node.example/tcp/443/wss", "/dns/node.example/tcp/443/tls/ws"] {
            own_place(told, Tell).expect(told);
            own_place(told, Listen).expect_err("a peer has no certificate");
        }
        own_place("/ip4/0.0.0.0/tcp/0", Listen).expect("the system chooses a port");
        own_place("/ip4/0.0.0.0/tcp/0", Tell).expect_err("a port that nobody knows");
        let whole = format!("/ip4/192.0.2.7/tcp/4001/p2p/{ID}");
        for (bad, word) in [
            ("node.example", "not an address"),
            ("/dns4/node.example", "port"),
            ("/ip4/192.0.2.7/ws", "port"),
            ("/ip4/192.0.2.7/udp/4001", "quic-v1"),
            ("/ip4/192.0.2.7/tcp/4001/http", "not spoken"),
            ("/tcp/4001", "host"),
            (&whole, "leave `/p2p/…` out"),
        ] {
            for purpose in [Listen, Tell] {
                let error = own_place(bad, purpose).expect_err(bad);
                assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
                assert!(error.message().contains(word), "{bad}: {error}");
            }
        }
    }

    #[test]
    fn what_nobody_can_dial_is_refused_with_what_is_dialled() {
        for place in [
            "/dns4/node.example/tcp/443/tls/ws",
            "/dns4/node.example/tcp/443/wss",
            "/ip4/192.0.2.7/tcp/4001/http",
            "/ip4/192.0.2.7/udp/4001",
            "/ip4/192.0.2.7/udp/4001/quic-v1/webtransport",
            "/ip4/192.0.2.7",
            "/ip4/192.0.2.7/tcp/0",
            "/tcp/4001",
            "/memory/7",
        ] {
            let error = format!("{place}/p2p/{ID}").parse::<PeerAddress>().expect_err(place);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            for way in ["/tcp/PORT`", "/tcp/PORT/ws`", "/udp/PORT/quic-v1`"] {
                assert!(error.message().contains(way), "{place}: {error}");
            }
        }
    }

    #[test]
    fn what_is_none_is_refused_with_a_reason() {
        let relayed = format!("/ip4/127.0.0.1/tcp/1/p2p/{ID}/p2p-circuit/p2p/{ID}");
        let long = format!("{}/p2p/{ID}", "/tcp/1".repeat(20));
        for bad in ["", "node.example", "/ip4/127.0.0.1/tcp/4001", &format!("/p2p/{ID}"), &relayed, &long] {
            let error = bad.parse::<PeerAddress>().expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(error.context("address"), Some(bad));
        }
        assert!(PeerAddress::of(&"nostr:wss://relay.example".parse().expect("a locator")).is_err());
    }
}
