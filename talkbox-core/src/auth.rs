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
