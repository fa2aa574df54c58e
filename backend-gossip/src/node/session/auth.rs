//! Whether an AUTH event proves a key to this node and this connection (NIP-42).

use talkbox_core::{
    Timestamp,
    event::{Event, kind},
};
use url::{Host, Url};

use crate::node::refusal::Refusal;

/// How far the time of an AUTH event may be from ours, in seconds: 10 minutes, as the NIP suggests.
const MAX_SKEW: u64 = 600;

/// Checks an event whose signature holds.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(event: &Event, challenge: &str, own: &Url, now: Timestamp) -> Result<(), Refusal> {
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
    match event.value("relay").map(Url::parse) {
        Some(Ok(relay)) if is_same(&relay, own) => Ok(()),
        _ => Err(Refusal::malformed("the relay tag does not name this node")),
    }
}

/// Whether two URLs name the same relay: host, port and path.
fn is_same(one: &Url, other: &Url) -> bool {
    let port = |url: &Url| {
        url.port().or(match url.scheme() {
            "ws" | "http" => Some(80),
            "wss" | "https" => Some(443),
            _ => None,
        })
    };
    let path = |url: &Url| url.path().trim_end_matches('/').to_owned();
    host(one) == host(other) && port(one) == port(other) && path(one) == path(other)
}

/// The host. All names of this machine are one: `localhost` and `127.0.0.1` reach the same listener.
fn host(url: &Url) -> Option<String> {
    Some(match url.host()? {
        Host::Domain(name) if name.eq_ignore_ascii_case("localhost") => "localhost".to_owned(),
        Host::Ipv4(address) if address.is_loopback() => "localhost".to_owned(),
        Host::Ipv6(address) if address.is_loopback() => "localhost".to_owned(),
        // `Url` takes the host of `ws` and `wss` through IDNA, in lower case.
        Host::Domain(name) => name.trim_end_matches('.').to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use talkbox_core::SecretKey;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn verdict(kind: u16, at: Timestamp, relay: &str, challenge: &str) -> Result<(), Refusal> {
        let tags = vec![vec!["relay".to_owned(), relay.to_owned()], vec!["challenge".to_owned(), challenge.to_owned()]];
        let event = Event::sign(&SecretKey::generate().expect("randomness"), at, kind, tags, String::new());
        check(&event, "abc", &Url::parse("wss://node.example/relay").expect("a URL"), NOW)
    }

    #[test]
    fn it_names_node_challenge_and_time() {
        assert_eq!(verdict(22242, NOW, "wss://NODE.example:443/relay/", "abc"), Ok(()));
        assert!(verdict(22241, NOW, "wss://node.example/relay", "abc").is_err());
        assert!(verdict(22242, NOW.minus(601), "wss://node.example/relay", "abc").is_err());
        assert!(verdict(22242, NOW.plus(601), "wss://node.example/relay", "abc").is_err());
        assert!(verdict(22242, NOW, "wss://node.example/relay", "abd").is_err());
        for relay in
            ["wss://other.example/relay", "wss://node.example/", "wss://node.example:444/relay", "node.example", ""]
        {
            assert!(verdict(22242, NOW, relay, "abc").is_err(), "{relay}");
        }
    }

    #[test]
    fn names_of_this_machine_are_one() {
        let url = |text| Url::parse(text).expect("a URL");
        assert!(is_same(&url("ws://localhost:7"), &url("ws://127.0.0.1:7/")));
        assert!(is_same(&url("ws://[::1]:7"), &url("ws://127.0.0.1:7/")));
        assert!(!is_same(&url("ws://localhost:8"), &url("ws://127.0.0.1:7/")));
    }
}
