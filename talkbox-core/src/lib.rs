//! Talkbox core: sealed mailboxes with a short public code, over any kind of network.
//!
//! A mailbox is a secp256k1 key pair; its public side is a [`Shortcode`] or an `npub`. Anyone may [`seal()`] a message
//! to it; the result is an [`Envelope`], a NIP-59 gift wrap, the same event and id on every network. Envelopes live
//! in a [`Mailbox`]; mailboxes are found over a [`Transport`]; a [`Backend`] gives one or both, and a [`Registry`]
//! opens it by name.
//!
//! This crate knows no network. What a backend has to do is said at the two traits, walked through in
//! `docs/writing-a-backend.md`, and checked by the conformance kit (feature `testkit`). Exact bytes are in
//! `docs/formats.md`.

pub mod address;
pub mod anti_entropy;
pub mod auth;
pub mod backend;
pub mod capability;
pub mod client;
pub mod clock;
pub mod config;
pub mod custody;
pub mod deletion;
pub mod envelope;
pub mod error;
pub mod event;
pub mod half;
pub mod hex;
pub mod hint;
pub mod id;
pub mod keys;
pub mod layers;
pub mod local;
pub mod locator;
pub mod mailbox;
pub mod memory;
pub mod message;
pub mod open;
pub mod parallel;
pub mod passphrase;
pub mod pow;
mod proxy;
mod random;
pub mod receipt;
pub mod record;
pub mod replicas;
pub mod seal;
pub mod shortcode;
pub mod sqlite;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod transport;
pub mod watcher;

#[doc(no_inline)]
pub use async_trait::async_trait;
// What the two traits and `BackendDef` are written with: a backend needs no other crate for them.
#[doc(no_inline)]
pub use futures_util::{future::BoxFuture, stream::BoxStream};

pub use crate::{
    address::{Address, Target},
    auth::{AuthRequest, Authorizer, KeyAuthorizer},
    backend::{Backend, BackendConfig, BackendDef, Composition, OpenContext, Registry},
    capability::{Capabilities, Descriptor},
    clock::{Clock, ManualClock, SystemClock, Timestamp},
    deletion::DeleteRequest,
    envelope::{Envelope, RawEnvelope},
    error::{Error, ErrorKind, Result, Retry},
    hint::Hint,
    id::{EnvelopeId, EventId, MailboxId, MessageId, PublicKey},
    keys::{RecoveryWords, SecretKey},
    locator::Locator,
    mailbox::{
        AuditOptions, Cursor, DeleteOptions, Difference, ListOptions, Mailbox, Page, PutOptions, Reconcile,
        ReconcileOptions, WatchEvent, WatchOptions,
    },
    message::{Message, MessageKind},
    open::Opener,
    proxy::Proxy,
    receipt::{Ack, Deletion, DeletionState, Holding, HoldingState, Level, Receipt, Refusal},
    record::{MailboxRecord, RecordFields},
    seal::{Draft, SealOptions, Sealed, seal},
    shortcode::Shortcode,
    transport::{NotifyOptions, PublishOptions, RawRecord, ResolveEvent, ResolveOptions, SubscribeOptions, Transport},
};

/// The candidate that a mistyped word most likely means, if any comes near.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Jaro-Winkler at 0.8 takes a swapped, missing or wrong letter and refuses another word.
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}
