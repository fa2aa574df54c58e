//! Authorizers: what lets a backend prove to a holder who asks, without ever seeing a secret key.

use std::{collections::BTreeSet, fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    Error, ErrorKind, PublicKey, Result,
    clock::Clock,
    event::{Event, kind},
    keys::SecretKey,
    locator::Locator,
};

/// What a holder asks to be signed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub enum AuthRequest<'a> {
    /// A relay's challenge (NIP-42).
    Relay {
        /// The relay, as the holder is named.
        holder: &'a Locator,
        /// The relay's URL, which goes into the event.
        url: &'a str,
        /// What the relay sent; at most 1 KiB.
        challenge: &'a str,
    },
    /// A request over HTTP (NIP-98).
    Http {
        /// The node, as the holder is named.
        holder: &'a Locator,
        /// The URL with path and query.
        url: &'a str,
        /// The method, in capitals.
        method: &'a str,
        /// The SHA-256 of the body, where there is one.
        body: Option<&'a [u8; 32]>,
    },
}

/// Signs AUTH events (kinds 22242 and 27235) for chosen holders, and nothing else.
///
/// Reads use the mailbox or keeper key, a sender's audit the key of the wrap, writes a throw-away key. One connection
/// carries one identity, so a backend pools connections by [`public`](Self::public).
#[async_trait]
pub trait Authorizer: fmt::Debug + Send + Sync + 'static {
    /// Who will be shown to ask.
    fn public(&self) -> PublicKey;

    /// Signs what the holder asks for.
    ///
    /// # Errors
    /// `Denied` where this key does not answer this holder; whatever a remote signer gives.
    async fn authorize(&self, request: AuthRequest<'_>) -> Result<Event>;
}

/// An [`Authorizer`] that holds the key itself.
pub struct KeyAuthorizer {
    key: SecretKey,
    holders: Option<BTreeSet<Locator>>,
    clock: Arc<dyn Clock>,
}

/// Most bytes of a challenge that will be signed: they go into an event, and nobody needs more.
const MAX_CHALLENGE: usize = 1024;

impl KeyAuthorizer {
    /// Answers these holders alone: for the key of a mailbox, those of one's own configuration and record.
    pub fn for_holders(key: SecretKey, holders: impl IntoIterator<Item = Locator>, clock: Arc<dyn Clock>) -> Self {
        Self { key, holders: Some(holders.into_iter().collect()), clock }
    }

    /// Answers every holder: for a throw-away key or the one-time key of a wrap, which give nothing away.
    pub fn for_anyone(key: SecretKey, clock: Arc<dyn Clock>) -> Self {
        Self { key, holders: None, clock }
    }
}

#[async_trait]
impl Authorizer for KeyAuthorizer {
    fn public(&self) -> PublicKey {
        self.key.public()
    }

    async fn authorize(&self, request: AuthRequest<'_>) -> Result<Event> {
        let (AuthRequest::Relay { holder, .. } | AuthRequest::Http { holder, .. }) = request;
        if self.holders.as_ref().is_some_and(|holders| !holders.contains(holder)) {
            return Err(
                Error::new(ErrorKind::Denied, "this key answers only holders of one's own").with("holder", holder)
            );
        }
        let (kind, tags) = match request {
            AuthRequest::Relay { challenge, .. } if challenge.len() > MAX_CHALLENGE => {
                return Err(
                    Error::new(ErrorKind::TooLarge, "the challenge is longer than 1 KiB").with("holder", holder)
                );
            }
            AuthRequest::Relay { url, challenge, .. } => {
                (kind::RELAY_AUTH, vec![tag("relay", url), tag("challenge", challenge)])
            }
            AuthRequest::Http { url, method, body, .. } => {
                let mut tags = vec![tag("u", url), tag("method", method)];
                tags.extend(body.map(|digest| tag("payload", &crate::hex::encode(digest))));
                (kind::HTTP_AUTH, tags)
            }
        };
        Ok(Event::sign(&self.key, self.clock.now(), kind, tags, String::new()))
    }
}

impl fmt::Debug for KeyAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyAuthorizer").field("holders", &self.holders).finish_non_exhaustive()
    }
}

fn tag(name: &str, value: &str) -> Vec<String> {
    vec![name.to_owned(), value.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManualClock, Timestamp};

    fn key() -> SecretKey {
        SecretKey::generate().expect("randomness")
    }

    fn clock() -> Arc<dyn Clock> {
        Arc::new(ManualClock::new(Timestamp(1_790_000_000)))
    }

    fn locator(text: &str) -> Locator {
        text.parse().expect("a locator")
    }

    /// Else a stranger's record could lead to a relay that passes on the challenge of one's own.
    #[tokio::test]
    async fn the_key_of_a_mailbox_answers_holders_of_ones_own_alone() {
        let (own, other) = (locator("nostr:wss://own.example"), locator("nostr:wss://other.example"));
        let auth = KeyAuthorizer::for_holders(key(), [own.clone()], clock());
        let ask = |holder| {
            let request = AuthRequest::Relay { holder, url: "wss://own.example", challenge: "c" };
            auth.authorize(request)
        };
        assert!(ask(&own).await.is_ok());
        let error = ask(&other).await.expect_err("a stranger's");
        assert_eq!((error.kind(), error.context("holder")), (ErrorKind::Denied, Some("nostr:wss://other.example")));
        let body = [1; 32];
        let http = AuthRequest::Http { holder: &other, url: "https://own.example", method: "GET", body: Some(&body) };
        assert_eq!(auth.authorize(http).await.expect_err("a stranger's").kind(), ErrorKind::Denied);
    }

    #[tokio::test]
    async fn what_is_signed_names_the_relay_and_the_moment() {
        let key = key();
        let (auth, holder) = (KeyAuthorizer::for_anyone(key.clone(), clock()), locator("nostr:wss://a.example"));
        let ask = |challenge| auth.authorize(AuthRequest::Relay { holder: &holder, url: "wss://a.example", challenge });
        let event = ask("c").await.expect("signs");
        assert_eq!((event.kind(), event.author()), (kind::RELAY_AUTH, key.public()));
        assert_eq!((event.value("relay"), event.value("challenge")), (Some("wss://a.example"), Some("c")));
        assert_eq!(event.created_at(), Timestamp(1_790_000_000));
        assert_eq!(Event::parse(&event.to_json()).expect("a valid event"), event);
        let long = "c".repeat(MAX_CHALLENGE + 1);
        assert_eq!(ask(&long).await.expect_err("too long").kind(), ErrorKind::TooLarge);
    }
}
