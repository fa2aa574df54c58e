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
        Ok(Self { peer, place })
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
        for place in ["/ip4/127.0.0.1/tcp/4001", "/dns4/node.example/tcp/443/ws", "/ip6/::1/udp/1/quic-v1"] {
            let text = format!("{place}/p2p/{ID}");
            let address: PeerAddress = text.parse().expect(place);
            assert_eq!((address.to_string(), address.place.to_string()), (text, place.to_owned()));
            let locator = address.locator().expect("a locator");
            assert_eq!(PeerAddress::of(&locator).expect("the same"), address);
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
