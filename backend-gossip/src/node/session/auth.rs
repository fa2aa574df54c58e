//! Whether an AUTH event proves a key to this node and this connection (NIP-42).

use talkbox_core::{
    Timestamp,
    event::{Event, kind},
};

use crate::node::{own_url::OwnUrl, refusal::Refusal};

/// How far the time of an AUTH event may be from ours, in seconds: 10 minutes, as the NIP suggests.
const MAX_SKEW: u64 = 600;

/// Checks an event whose signature holds.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(event: &Event, challenge: &str, own: &OwnUrl, now: Timestamp) -> Result<(), Refusal> {
    if event.kind() != kind::RELAY_AUTH {
        return Err(Refusal::malformed("not an event of kind 22242"));
    }
    if event.created_at().secs().abs_diff(now.secs()) > MAX_SKEW {
        return Err(Refusal::malformed("created_at is more than 10 minutes from the time here"));
    }
    if event.value("challenge") != Some(challenge) {
        return Err(Refusal::malformed("not the challenge of this connection"));
    }
    // An event for another relay, passed on by it, must prove nothing here.
    if event.value("relay").is_some_and(|relay| own.is_relay(relay)) {
        return Ok(());
    }
    Err(Refusal::malformed("the relay tag does not name this node"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use talkbox_core::SecretKey;

    use super::*;
    use crate::node::NodeConfig;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn verdict(kind: u16, at: Timestamp, relay: &str, challenge: &str) -> Result<(), Refusal> {
        let tags = vec![vec!["relay".to_owned(), relay.to_owned()], vec!["challenge".to_owned(), challenge.to_owned()]];
        let event = Event::sign(&SecretKey::generate().expect("randomness"), at, kind, tags, String::new());
        let config = NodeConfig { public_url: Some("wss://node.example/relay".to_owned()), ..NodeConfig::default() };
        let own = OwnUrl::new(&config, SocketAddr::from(([127, 0, 0, 1], 1))).expect("a URL");
        check(&event, "abc", &own, NOW)
    }

    #[test]
    fn it_names_node_challenge_and_time() {
        assert_eq!(verdict(22242, NOW, "wss://NODE.example:443/relay/", "abc"), Ok(()));
        assert!(verdict(22241, NOW, "wss://node.example/relay", "abc").is_err());
        assert!(verdict(22242, NOW.minus(601), "wss://node.example/relay", "abc").is_err());
        assert!(verdict(22242, NOW.plus(601), "wss://node.example/relay", "abc").is_err());
        assert!(verdict(22242, NOW, "wss://node.example/relay", "abd").is_err());
        assert!(verdict(22242, NOW, "wss://other.example/relay", "abc").is_err());
    }
}
