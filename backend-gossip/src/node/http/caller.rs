//! Who makes a request, by NIP-98: an event that names method, URL and body, signed within the last minute.

use axum::http::{HeaderMap, Method, Uri, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use talkbox_core::{
    MailboxId, PublicKey, Timestamp,
    event::{Event, kind},
    hex,
};

use crate::node::{
    Shared,
    addresses::Party,
    gate::Rights,
    keepers::is_keeper,
    own_url::OwnUrl,
    refusal::{Reason, Refusal},
};

/// How far the time of the event may be from ours, in seconds, as NIP-98 suggests.
const MAX_SKEW: u64 = 60;

/// What a request says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

/// Whose request it is; `None` where it does not say.
///
/// # Errors
/// `AuthRequired` where what it says does not hold.
pub(super) async fn identify(node: &Shared, asked: Asked<'_>) -> Result<Option<PublicKey>, Refusal> {
    let Some(claim) = asked.headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let wrong = |why: &'static str| Refusal::new(Reason::AuthRequired, why);
    let json = claim
        .to_str()
        .ok()
        .and_then(|claim| claim.strip_prefix("Nostr "))
        .and_then(|event| STANDARD.decode(event.trim()).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| wrong("the authorization is not that of NIP-98"))?;
    let event = node
        .intake
        .verify(json)
        .await
        .ok_or_else(|| Refusal::new(Reason::Failed, "the node is stopping"))?
        .map_err(|error| Refusal::new(Reason::AuthRequired, error.message().to_owned()))?;
    check(&event, asked, &node.url, node.now())?;
    Ok(Some(event.author()))
}

/// Checks an event whose signature holds.
fn check(event: &Event, asked: Asked<'_>, own: &OwnUrl, now: Timestamp) -> Result<(), Refusal> {
    let wrong = |why: &'static str| Refusal::new(Reason::AuthRequired, why);
    if event.kind() != kind::HTTP_AUTH {
        return Err(wrong("not an event of kind 27235"));
    }
    if event.created_at().secs().abs_diff(now.secs()) > MAX_SKEW {
        return Err(wrong("created_at is more than a minute from the time here"));
    }
    if !event.value("method").is_some_and(|method| method.eq_ignore_ascii_case(asked.method.as_str())) {
        return Err(wrong("the method tag does not name this method"));
    }
    let path = asked.uri.path_and_query().map_or("/", |path| path.as_str());
    if !event.value("u").is_some_and(|url| own.is_request(url, path)) {
        return Err(wrong("the u tag does not name this URL"));
    }
    let digest = || hex::encode(&Sha256::digest(asked.body));
    if !asked.body.is_empty() && event.value("payload") != Some(&digest()) {
        return Err(wrong("the payload tag is not the hash of the body"));
    }
    Ok(())
}

/// Lets a key read a mailbox: its owner, and those whom its record names as keepers.
///
/// # Errors
/// `AuthRequired` where no key is shown, `Forbidden` where it is another's.
pub(super) async fn may_read(
    node: &Shared,
    caller: Option<PublicKey>,
    mailbox: MailboxId,
    party: Party,
) -> Result<Rights, Refusal> {
    if !node.config.gate_reads {
        return Ok(Rights::Everything);
    }
    let Some(caller) = caller else {
        return Err(Refusal::new(Reason::AuthRequired, "a mailbox is read by its owner and its keepers"));
    };
    if PublicKey::from(mailbox) != caller && !is_keeper(node, caller, mailbox, party).await? {
        return Err(Refusal::new(Reason::Forbidden, "a mailbox is read by its owner and its keepers"));
    }
    Ok(Rights::Keys(vec![mailbox.into()]))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use talkbox_core::SecretKey;

    use super::*;
    use crate::node::NodeConfig;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn verdict(at: Timestamp, tags: &[[&str; 2]], method: &Method, body: &[u8]) -> Result<(), Refusal> {
        let config = NodeConfig { public_url: Some("wss://node.example".to_owned()), ..NodeConfig::default() };
        let own = OwnUrl::new(&config, SocketAddr::from(([127, 0, 0, 1], 1))).expect("a URL");
        let tags = tags.iter().map(|tag| tag.map(ToOwned::to_owned).to_vec()).collect();
        let key = SecretKey::generate().expect("randomness");
        let event = Event::sign(&key, at, kind::HTTP_AUTH, tags, String::new());
        let uri = Uri::from_static("/v1/have?a=b");
        check(&event, Asked { method, uri: &uri, headers: &HeaderMap::new(), body }, &own, NOW)
    }

    #[test]
    fn it_names_method_url_moment_and_body() {
        let (u, post) = (["u", "https://node.example/v1/have?a=b"], ["method", "POST"]);
        let payload = hex::encode(&Sha256::digest(b"x"));
        let payload = ["payload", payload.as_str()];
        assert_eq!(verdict(NOW, &[u, post], &Method::POST, b""), Ok(()));
        assert_eq!(verdict(NOW.plus(60), &[u, post, payload], &Method::POST, b"x"), Ok(()));
        assert!(verdict(NOW, &[u, post], &Method::POST, b"x").is_err());
        assert!(verdict(NOW, &[u, post, payload], &Method::POST, b"y").is_err());
        assert!(verdict(NOW, &[u, post], &Method::GET, b"").is_err());
        assert!(verdict(NOW, &[["u", "https://other.example/v1/have?a=b"], post], &Method::POST, b"").is_err());
        assert!(verdict(NOW, &[["u", "https://node.example/v1/have"], post], &Method::POST, b"").is_err());
        assert!(verdict(NOW, &[post], &Method::POST, b"").is_err());
        assert!(verdict(NOW.plus(61), &[u, post], &Method::POST, b"").is_err());
        assert!(verdict(NOW.minus(61), &[u, post], &Method::POST, b"").is_err());
    }
}
