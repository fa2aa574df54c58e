//! The control plane, that is rendezvous and not a byte carrier: where a mailbox lives (signed records) and when to
//! look (hints). Mail never lives in a transport alone: a lost hint costs delay, never mail.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::{
    MailboxId, Result, address::Target, auth::Authorizer, capability::Descriptor, event::Event, hint::Hint,
    locator::Locator, receipt::Receipt, record::MailboxRecord,
};

/// Records and hints on one network.
///
/// A transport decides nothing: core checks every record that it gives and chooses among them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a transport",
    note = "`docs/writing-a-backend.md` walks through a small complete backend"
)]
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// What it is. Never changes.
    fn descriptor(&self) -> &Descriptor;

    /// Publishes a record wherever senders will look.
    ///
    /// # Errors
    /// Where nobody took it: see [`Receipt::settle`].
    async fn publish(&self, record: &MailboxRecord, options: PublishOptions) -> Result<Receipt>;

    /// Everything that is known of a target, from every source, as it comes in.
    ///
    /// # Behavior
    /// The stream ends when all sources have answered or given up. A source that fails is an error in the stream and
    /// does not end it; one that has given all that it has says [`ResolveEvent::End`], also where that is nothing, so
    /// that "nobody knows it" can be told from "nobody could be asked".
    fn resolve(&self, target: &Target, options: ResolveOptions) -> BoxStream<'static, Result<ResolveEvent>>;

    /// Wakes whoever reads the mailbox. It may be lost.
    ///
    /// # Errors
    /// Where nobody could be told.
    async fn notify(&self, hint: &Hint, options: NotifyOptions) -> Result<()>;

    /// Hints for a mailbox, as they come.
    fn subscribe(&self, owner: MailboxId, options: SubscribeOptions) -> BoxStream<'static, Result<Hint>>;

    /// Ends all work and closes all connections.
    async fn close(&self);
}

/// What a source says of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveEvent {
    /// A record.
    Record(RawRecord),
    /// The source has given all that it has, which may be nothing. A source that is asked several questions may say so
    /// for each.
    End {
        /// Which source.
        source: Locator,
    },
}

impl ResolveEvent {
    /// The record, where it is one.
    pub fn into_record(self) -> Option<RawRecord> {
        match self {
            Self::Record(record) => Some(record),
            Self::End { .. } => None,
        }
    }
}

/// A record as a network gave it: not yet checked. For a target that is a key, also its list of inbox relays (NIP-17,
/// kind 10050), which is where a key without a record can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    /// The JSON of the event, at most [`MAX_RECORD_BYTES`](crate::record::MAX_RECORD_BYTES).
    pub json: String,
    /// Who gave it.
    pub source: Locator,
}

/// How to publish.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// Who asks, where a holder wants to know.
    pub auth: Option<Arc<dyn Authorizer>>,
    /// The owner's signed list of inbox relays (NIP-17, kind 10050), for networks that know it.
    pub inbox_relays: Option<Event>,
}

impl PublishOptions {
    /// As this key.
    #[must_use]
    pub fn auth(mut self, auth: Option<Arc<dyn Authorizer>>) -> Self {
        self.auth = auth;
        self
    }

    /// With the list of inbox relays.
    #[must_use]
    pub fn inbox_relays(mut self, event: Option<Event>) -> Self {
        self.inbox_relays = event;
        self
    }
}

/// How to resolve.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct ResolveOptions {
    /// Further places to ask, from the address itself.
    pub hints: Vec<Locator>,
}

impl ResolveOptions {
    /// With these further places.
    #[must_use]
    pub fn hints(mut self, hints: impl IntoIterator<Item = Locator>) -> Self {
        self.hints = hints.into_iter().collect();
        self
    }
}

/// How to notify.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct NotifyOptions {
    /// The holders to tell; empty for those that are configured.
    pub at: Vec<Locator>,
}

/// How to subscribe.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct SubscribeOptions {
    /// Who asks, where a holder wants to know.
    pub auth: Option<Arc<dyn Authorizer>>,
}
