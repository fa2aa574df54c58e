//! Envelopes: a NIP-59 gift wrap as one immutable value, the same bytes and the same id on every network.

use std::{fmt, sync::Arc};

use crate::{
    EnvelopeId, Error, ErrorKind, MailboxId, PublicKey, Result,
    clock::Timestamp,
    event::{Wire, kind},
    hex, parallel, pow,
};

/// Most bytes that the canonical form of an envelope may have. It is what common relays take.
pub const MAX_ENVELOPE_BYTES: usize = 65_536;
/// How long an envelope without an `expiration` is kept: 90 days, in seconds.
pub const DEFAULT_RETENTION: u64 = 90 * 86_400;
/// Nothing is kept longer than this after its claimed time: 400 days, in seconds.
pub const MAX_RETENTION: u64 = 400 * 86_400;
/// A gift wrap is dated back by up to this many seconds (NIP-59), so that its time says nothing.
pub const MAX_BACKDATE: u64 = 172_800;
/// Holders refuse what is dated further into the future than this many seconds.
pub const MAX_FUTURE: u64 = 900;

/// A gift wrap as a network gave it: not yet checked.
///
/// `list` and `watch` yield these. Core drops the ids that it already holds, and then [`Envelope::parse`] checks the
/// rest, once.
#[derive(Clone, PartialEq, Eq)]
pub struct RawEnvelope {
    id: EnvelopeId,
    json: Arc<str>,
}

impl RawEnvelope {
    /// What a holder sent: the id that it claims, and its JSON of at most [`MAX_ENVELOPE_BYTES`].
    ///
    /// # Errors
    /// `TooLarge`.
    pub fn new(id: EnvelopeId, json: impl Into<Arc<str>>) -> Result<Self> {
        let json = json.into();
        if json.len() > MAX_ENVELOPE_BYTES {
            return Err(too_large(json.len()));
        }
        Ok(Self { id, json })
    }

    /// The id that the holder claims.
    pub const fn id(&self) -> EnvelopeId {
        self.id
    }

    /// The JSON as the holder sent it.
    pub fn json(&self) -> &str {
        &self.json
    }
}

impl fmt::Debug for RawEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawEnvelope({:?}, {} bytes)", self.id, self.json.len())
    }
}

impl From<&Envelope> for RawEnvelope {
    fn from(envelope: &Envelope) -> Self {
        Self { id: envelope.id(), json: Arc::clone(&envelope.0.json) }
    }
}

/// A gift wrap whose form, id and signature have been checked: always safe to store and to pass on.
///
/// There is no other way to make one than [`parse`](Self::parse), [`restore`](Self::restore) and sealing. A clone
/// costs a counter.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    id: EnvelopeId,
    author: PublicKey,
    mailbox: MailboxId,
    created_at: Timestamp,
    expiration: Option<Timestamp>,
    work: u8,
    content: String,
    json: Arc<str>,
}

impl Envelope {
    /// Checks a gift wrap: size, JSON, kind, exactly one `p`, id and signature. Pure, and the same at any time:
    /// whether it has expired is asked with [`is_expired`](Self::is_expired).
    ///
    /// # Errors
    /// `TooLarge`, `InvalidEnvelope` where it is malformed or no gift wrap, `VerificationFailed` where id or
    /// signature do not hold.
    pub fn parse(json: &str) -> Result<Self> {
        let wire = Self::wire(json)?;
        wire.verify()?;
        Self::take(wire)
    }

    /// Checks what a holder sent. The id that the holder claimed has to be the right one, too.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn verify(raw: &RawEnvelope) -> Result<Self> {
        let wire = Self::wire(&raw.json)?;
        if EnvelopeId::from(wire.id()) != raw.id {
            return Err(Error::new(ErrorKind::VerificationFailed, "the holder sent another envelope under this id"));
        }
        wire.verify()?;
        Self::take(wire)
    }

    /// [`verify`](Self::verify) for many at once, on all cores.
    pub fn verify_many(raw: &[RawEnvelope]) -> Vec<Result<Self>> {
        parallel::map(raw, Self::verify)
    }

    /// Takes an envelope back from a store that it was checked for: the id is computed again, so that a rotten row is
    /// noticed; the signature is not.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), less the signature.
    pub fn restore(json: &str) -> Result<Self> {
        let wire = Self::wire(json)?;
        wire.verify_id()?;
        Self::take(wire)
    }

    fn wire(json: &str) -> Result<Wire<'_>> {
        if json.len() > MAX_ENVELOPE_BYTES {
            return Err(too_large(json.len()));
        }
        let wire = Wire::parse(json)?;
        if wire.kind() != kind::GIFT_WRAP {
            return Err(Error::new(ErrorKind::InvalidEnvelope, "not a gift wrap").with("kind", wire.kind()));
        }
        Ok(wire)
    }

    fn take(wire: Wire<'_>) -> Result<Self> {
        let mailbox = {
            let mut recipients = wire.tags().iter().filter(|tag| tag[0] == "p");
            match (recipients.next().and_then(|tag| tag.get(1)), recipients.next()) {
                (Some(mailbox), None) => hex::decode_lower(mailbox).map(MailboxId::from_bytes),
                _ => None,
            }
        }
        .ok_or_else(|| Error::new(ErrorKind::InvalidEnvelope, "not addressed to exactly one mailbox"))?;
        let expiration = wire.values("expiration").next().and_then(|value| value.parse().ok()).map(Timestamp);
        let id = EnvelopeId::from(wire.id());
        let json: Arc<str> = wire.to_json().into();
        if json.len() > MAX_ENVELOPE_BYTES {
            return Err(too_large(json.len()));
        }
        let committed = pow::committed_bits(wire.tags());
        Ok(Self(Arc::new(Inner {
            id,
            author: wire.author(),
            mailbox,
            created_at: wire.created_at(),
            expiration,
            work: committed.map_or(0, |bits| bits.min(pow::leading_zero_bits(id.as_bytes()))),
            content: wire.into_event().into_content(),
            json,
        })))
    }

    /// Its name on every network.
    pub fn id(&self) -> EnvelopeId {
        self.0.id
    }

    /// The one-time key that signed it.
    pub fn author(&self) -> PublicKey {
        self.0.author
    }

    /// The mailbox that it is addressed to.
    pub fn mailbox(&self) -> MailboxId {
        self.0.mailbox
    }

    /// The time that it claims; dated back at random, so it orders nothing.
    pub fn created_at(&self) -> Timestamp {
        self.0.created_at
    }

    /// When holders may drop it: the least of its `expiration` and 400 days after its time; 90 days without the tag.
    pub fn expires_at(&self) -> Timestamp {
        expires_at(self.0.created_at, self.0.expiration)
    }

    /// Whether it has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at() <= now
    }

    /// The work that it committed to and shows (NIP-13), in bits; 0 without a `nonce` tag.
    pub fn work(&self) -> u8 {
        self.0.work
    }

    /// The sealed content (NIP-44, base64).
    pub fn content(&self) -> &str {
        &self.0.content
    }

    /// The canonical bytes, which every holder gets.
    pub fn json(&self) -> &str {
        &self.0.json
    }

    /// The canonical bytes, shared.
    pub fn shared_json(&self) -> Arc<str> {
        Arc::clone(&self.0.json)
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({:?}, {} bytes)", self.0.id, self.0.json.len())
    }
}

/// When holders may drop an event: `expiration`, but at most 400 days after its time; 90 days without the tag.
pub fn expires_at(created_at: Timestamp, expiration: Option<Timestamp>) -> Timestamp {
    match expiration {
        Some(expiration) => expiration.min(created_at.plus(MAX_RETENTION)),
        None => created_at.plus(DEFAULT_RETENTION),
    }
}

pub(crate) fn too_large(bytes: usize) -> Error {
    Error::new(ErrorKind::TooLarge, "larger than an envelope may be")
        .with("bytes", bytes)
        .with("limit", MAX_ENVELOPE_BYTES)
}
