//! What a node reads by itself, fed with any bytes.

use futures_util::{FutureExt as _, io::Cursor};

use super::{address::PeerAddress, heads as exchange};
use crate::orbitdb::cbor;

/// Where a peer is.
pub fn peer_address(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let Ok(address) = text.parse::<PeerAddress>() else { return false };
    assert!(!address.place.is_empty());
    assert_eq!(address.to_string().parse::<PeerAddress>().expect("it is written as it was read"), address);
    if let Ok(locator) = address.locator() {
        assert_eq!(PeerAddress::of(&locator).expect("a place on IPFS"), address);
    }
    true
}

/// What a peer writes as its heads.
pub fn heads(bytes: &[u8]) -> bool {
    let read = exchange::read(&mut Cursor::new(bytes)).now_or_never().expect("all of it is there");
    let Ok(heads) = read else { return false };
    assert!(heads.len() <= exchange::MAX_HEADS);
    assert!(heads.iter().all(|head| cbor::decode(head).is_ok()));
    assert!(bytes.starts_with(&heads.concat()), "they are what stood there");
    !heads.is_empty()
}

pub(crate) fn addresses() -> Vec<Vec<u8>> {
    let places = ["/ip4/127.0.0.1/tcp/4001", "/dns4/node.example/tcp/443/ws", "/ip6/::1/udp/1/quic-v1"];
    let peer = "16Uiu2HAm3aBGq5sdGKKmyHYVJWrJUvqLoC1HbmoaQEUTBJ2bHP8u";
    places.map(|place| format!("{place}/p2p/{peer}").into_bytes()).into()
}
