//! The data plane: where envelopes live.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::{
    EnvelopeId, MailboxId, Result,
    auth::Authorizer,
    capability::{Capabilities, Descriptor},
    clock::Timestamp,
    deletion::DeleteRequest,
    envelope::{Envelope, RawEnvelope},
    locator::Locator,
    receipt::{Deletion, Holding, Receipt},
};

/// Envelopes on one network.
///
/// Every operation is idempotent by id, so that any of them may be tried again at any time. A mailbox is used by many
/// tasks at once. Dropping a future or a stream ends the work behind it.
///
/// A backend does not decide what is valid: what it lists is *raw* until core has checked it. It does bound what it
/// reads from the network in size, count and time, and one bad item never hides the others.
///
/// `docs/writing-a-backend.md` walks through a small complete one; the conformance kit (feature `testkit`) says
/// whether it is right.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a mailbox",
    note = "`docs/writing-a-backend.md` walks through a small complete one"
)]
#[async_trait]
pub trait Mailbox: fmt::Debug + Send + Sync + 'static {
    /// What it is. Never changes.
    fn descriptor(&self) -> &Descriptor;

    /// What it can do. A layer may narrow this.
    fn capabilities(&self) -> Capabilities;

    /// The configured holders: who can be asked one by one, in order of preference.
    fn holders(&self) -> Vec<Locator>;

    /// Stores envelopes at every holder of [`PutOptions::at`], or at all that are configured.
    ///
    /// # Behavior
    /// One answer for each envelope, in order. `Ok` means stored by somebody else, or on its way there: see
    /// [`Receipt`]. An envelope that is there already is acknowledged as a duplicate, however the holder words it.
    /// One holder that refuses, hangs or lies costs only itself.
    ///
    /// # Errors
    /// For an envelope that nobody took: see [`Receipt::settle`].
    async fn put(&self, envelopes: &[Envelope], options: PutOptions) -> Vec<Result<Receipt>>;

    /// One page of what one holder has for a mailbox.
    ///
    /// # Behavior
    /// Going from `after: None` to a page without `more` yields every envelope that the holder had when it began and
    /// kept until the end, whatever arrives meanwhile. [`Page::next`] of the last page is where a later call goes on:
    /// that call yields at least what arrived since, and may yield some of what came before. An unknown mailbox is an
    /// empty page. Nothing that has expired is listed.
    ///
    /// # Errors
    /// `NotFound` where the cursor is of another epoch of the holder: begin again without one. `Denied` where the
    /// holder wants a key that the options do not give.
    async fn list(&self, owner: MailboxId, holder: &Locator, options: ListOptions) -> Result<Page>;

    /// Which of these envelopes one holder has. One answer for each id, in order.
    ///
    /// # Errors
    /// As [`list`](Self::list). What the holder does not say is `Unknown`, not an error.
    async fn audit(
        &self,
        owner: MailboxId,
        holder: &Locator,
        ids: &[EnvelopeId],
        options: AuditOptions,
    ) -> Result<Vec<Holding>>;

    /// Asks every holder of [`DeleteOptions::at`], or all that are configured, to delete. One answer for each request,
    /// in order.
    ///
    /// # Errors
    /// For a request that no holder took.
    async fn delete(&self, requests: &[DeleteRequest], options: DeleteOptions) -> Vec<Result<Deletion>>;

    /// What arrives from now on, and what arrived after [`WatchOptions::after`]; `None` where
    /// [`Capabilities::watch`] is off.
    ///
    /// # Behavior
    /// The stream joins all configured holders and does not end by itself: a holder that is lost is reported as an
    /// error with its name, tried again with back-off, and then says `Lagged` and `Live` again.
    fn watch(&self, owner: MailboxId, options: WatchOptions) -> Option<BoxStream<'static, Result<WatchEvent>>>;

    /// Set reconciliation with one holder, where the network has it.
    fn reconciler(&self, holder: &Locator) -> Option<Arc<dyn Reconcile>>;

    /// Ends all work and closes all connections. Calls that come later fail with `Closed`.
    async fn close(&self);
}

/// Finds out in which envelopes a holder and we differ, at a cost that follows the difference and not the whole.
#[async_trait]
pub trait Reconcile: fmt::Debug + Send + Sync + 'static {
    /// Compares what we know of (also what we deleted or refused) with what the holder has.
    ///
    /// # Errors
    /// `Unsupported` where this holder does not speak it after all; as [`Mailbox::list`].
    async fn difference(
        &self,
        owner: MailboxId,
        ours: &[(Timestamp, EnvelopeId)],
        options: ReconcileOptions,
    ) -> Result<Difference>;
}

/// In what a holder and we differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The holder has these, and we do not know of them.
    pub theirs: Vec<EnvelopeId>,
    /// We know of these, and the holder does not have them.
    pub ours: Vec<EnvelopeId>,
}

/// Where a listing goes on: opaque, made by one holder, valid with it alone.
///
/// It is committed in the same transaction as what it covers.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// A part of what a holder has.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Envelopes, not yet checked, in an order of the holder's.
    pub items: Vec<RawEnvelope>,
    /// Where to go on, now or later.
    pub next: Option<Cursor>,
    /// Whether there is more now.
    pub more: bool,
}

/// What a watch says.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// The backlog of this holder is through: what comes next is new.
    Live {
        /// Which holder.
        holder: Locator,
    },
    /// An envelope, not yet checked.
    Envelope {
        /// Which holder sent it.
        holder: Locator,
        /// What it sent.
        raw: RawEnvelope,
        /// Where a listing goes on after it, where the holder says so.
        cursor: Option<Cursor>,
    },
    /// Something of this holder may be missing: list again.
    Lagged {
        /// Which holder.
        holder: Locator,
    },
}

/// How to put.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// Who asks, where a holder wants to know: a throw-away key.
    pub auth: Option<Arc<dyn Authorizer>>,
    /// The holders to put to; empty for those that are configured.
    pub at: Vec<Locator>,
}

impl PutOptions {
    /// To these holders.
    #[must_use]
    pub fn at(mut self, at: impl IntoIterator<Item = Locator>) -> Self {
        self.at = at.into_iter().collect();
        self
    }

    /// As this key.
    #[must_use]
    pub fn auth(mut self, auth: Arc<dyn Authorizer>) -> Self {
        self.auth = Some(auth);
        self
    }
}

/// How to list.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Who asks: the mailbox or keeper key.
    pub auth: Option<Arc<dyn Authorizer>>,
    /// Go on from here.
    pub after: Option<Cursor>,
    /// At most so many items; 0 for the backend's own page size.
    pub limit: u32,
    /// Only these, whatever `after` says; at most [`MAX_IDS`](Self::MAX_IDS).
    pub ids: Vec<EnvelopeId>,
}

impl ListOptions {
    /// Most ids that one call takes.
    pub const MAX_IDS: usize = 256;

    /// As this key.
    #[must_use]
    pub fn auth(mut self, auth: Option<Arc<dyn Authorizer>>) -> Self {
        self.auth = auth;
        self
    }

    /// From here.
    #[must_use]
    pub fn after(mut self, after: Option<Cursor>) -> Self {
        self.after = after;
        self
    }

    /// At most so many.
    #[must_use]
    pub const fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Only these.
    #[must_use]
    pub fn ids(mut self, ids: impl IntoIterator<Item = EnvelopeId>) -> Self {
        self.ids = ids.into_iter().collect();
        self
    }
}

/// How to audit.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// Who asks: the mailbox or keeper key, or the one-time key of a wrap.
    pub auth: Option<Arc<dyn Authorizer>>,
}

impl AuditOptions {
    /// As this key.
    #[must_use]
    pub fn auth(mut self, auth: Option<Arc<dyn Authorizer>>) -> Self {
        self.auth = auth;
        self
    }
}

/// How to reconcile.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct ReconcileOptions {
    /// Who asks: the mailbox or keeper key.
    pub auth: Option<Arc<dyn Authorizer>>,
}

impl ReconcileOptions {
    /// As this key.
    #[must_use]
    pub fn auth(mut self, auth: Option<Arc<dyn Authorizer>>) -> Self {
        self.auth = auth;
        self
    }
}

/// How to delete.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Who asks again whether they are gone: the mailbox key, or the one-time key of a wrap.
    pub auth: Option<Arc<dyn Authorizer>>,
    /// The holders to ask; empty for those that are configured.
    pub at: Vec<Locator>,
}

impl DeleteOptions {
    /// As this key.
    #[must_use]
    pub fn auth(mut self, auth: Option<Arc<dyn Authorizer>>) -> Self {
        self.auth = auth;
        self
    }

    /// At these holders.
    #[must_use]
    pub fn at(mut self, at: impl IntoIterator<Item = Locator>) -> Self {
        self.at = at.into_iter().collect();
        self
    }
}

/// How to watch.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// Who asks: the mailbox or keeper key.
    pub auth: Option<Arc<dyn Authorizer>>,
    /// Where to begin, holder by holder; from now where a holder is not named.
    pub after: Vec<(Locator, Cursor)>,
    /// How long before a lost holder is tried again, at first; it doubles up to a minute.
    pub retry_after: Option<Duration>,
}

impl WatchOptions {
    /// As this key.
    #[must_use]
    pub fn auth(mut self, auth: Option<Arc<dyn Authorizer>>) -> Self {
        self.auth = auth;
        self
    }

    /// From these cursors.
    #[must_use]
    pub fn after(mut self, after: Vec<(Locator, Cursor)>) -> Self {
        self.after = after;
        self
    }
}
