//! Lists of nodes over HTTP: a registry, or what a peer says of its own peers. Both have one form, that of `GET /v1/peers`,
//! so that every node is a registry.

use talkbox_core::{PublicKey, Result, hex};
use url::Url;

use super::Named;
use crate::node::{
    Shared,
    mesh::{ask, peer::Peer},
};

/// What is read of the document.
#[derive(serde::Deserialize)]
struct Directory {
    peers: Vec<Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    url: String,
    key: Option<String>,
}

/// Reads a registry.
///
/// # Errors
/// Those of asking; `Refused` for a document of another form.
pub(super) async fn read(node: &Shared, registry: Url) -> Result<Vec<Named>> {
    named(&ask::document(node, registry).await?)
}

/// Reads what a peer says of its own peers.
///
/// # Errors
/// As [`read`].
pub(super) async fn of_peer(node: &Shared, peer: &Peer) -> Result<Vec<Named>> {
    named(&ask::document(node, peer.address.route("/v1/peers")?).await?)
}

fn named(document: &[u8]) -> Result<Vec<Named>> {
    let directory: Directory =
        serde_json::from_slice(document).map_err(|error| ask::nonsense("that is no list of nodes").source(error))?;
    let key = |digits: &str| hex::decode_lower(digits).map(PublicKey::from_bytes);
    let named = |entry: Entry| Named { key: entry.key.as_deref().and_then(key), url: entry.url };
    Ok(directory.peers.into_iter().map(named).collect())
}

#[cfg(test)]
mod tests {
    use talkbox_core::ErrorKind;

    use super::*;

    #[test]
    fn what_a_node_says_of_its_peers_is_a_directory() {
        let key = "0a".repeat(32);
        let document = format!(
            r#"{{"key":"x","peers":[{{"url":"https://a.example","key":"{key}","state":"ok"}},{{"url":"b","key":"c"}}]}}"#
        );
        let named = named(document.as_bytes()).expect("a list");
        assert_eq!(named[0], Named { url: "https://a.example".to_owned(), key: Some(PublicKey::from_bytes([10; 32])) });
        assert_eq!(named[1].key, None);
        for wrong in ["", "[]", r#"{"peers":{}}"#, r#"{"peers":[{"key":"x"}]}"#] {
            assert_eq!(super::named(wrong.as_bytes()).expect_err(wrong).kind(), ErrorKind::Refused);
        }
    }
}
