//! How a node is announced on Nostr: a relay discovery event of NIP-66 (kind 30166), signed by the node itself.

use serde_json::{Value, json};
use talkbox_core::{
    SecretKey, Timestamp,
    event::{Event, kind},
};

use super::Named;

/// The topic by which announcements of nodes are found.
const TOPIC: &str = "talkbox-node";
/// How old an announcement may be, in seconds: nodes repeat theirs every hour or so.
const FRESH: u64 = 7 * 86_400;

/// Announces the node at this URL (`wss://…`).
pub(super) fn announcement(key: &SecretKey, url: &str, now: Timestamp) -> Event {
    let tag = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
    let tags = vec![tag("d", url), tag("n", "clearnet"), tag("T", "PrivateInbox"), tag("t", TOPIC)];
    Event::sign(key, now, kind::RELAY_DISCOVERY, tags, String::new())
}

/// The filter that finds announcements, so many at most.
pub(super) fn filter(most: usize, now: Timestamp) -> Value {
    json!({"kinds": [kind::RELAY_DISCOVERY], "#t": [TOPIC], "since": now.minus(FRESH).secs(), "limit": most})
}

/// What an announcement says. `None` for what is none, or not signed by the key that it names.
pub(super) fn read(json: &str, now: Timestamp) -> Option<Named> {
    let event = Event::parse(json).ok()?;
    let is_one = event.kind() == kind::RELAY_DISCOVERY
        && event.values("t").any(|topic| topic == TOPIC)
        && event.created_at().plus(FRESH) > now;
    is_one.then(|| Some(Named { url: event.value("d")?.to_owned(), key: Some(event.author()) })).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    #[test]
    fn what_a_node_announces_others_read() {
        let key = SecretKey::generate().expect("randomness");
        let event = announcement(&key, "wss://node.example", NOW);
        let named = Named { url: "wss://node.example".to_owned(), key: Some(key.public()) };
        assert_eq!(read(&event.to_json(), NOW), Some(named));
        assert_eq!(read(&event.to_json(), NOW.plus(FRESH)), None, "too old");
        assert_eq!(read(&event.to_json().replace("node.example", "evil.example"), NOW), None, "another's words");
        let other = Event::sign(&key, NOW, kind::RELAY_DISCOVERY, event.tags()[..3].to_vec(), String::new());
        assert_eq!(read(&other.to_json(), NOW), None, "a relay of another kind");
    }
}
