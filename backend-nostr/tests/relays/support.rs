//! What the tests have in common: opening the backend, keys, envelopes.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use talkbox_core::{
    Authorizer, Backend, BackendConfig, Clock, Cursor, Draft, Envelope, EnvelopeId, KeyAuthorizer, ListOptions,
    Locator, Mailbox, MailboxId, ManualClock, OpenContext, Page, Result, SealOptions, Sealed, SecretKey, Timestamp,
    Transport, seal,
};

/// The time of the tests.
pub(crate) const NOW: Timestamp = Timestamp(1_790_000_000);

/// The backend over these relays, with a clock that stands still and a time-out of two seconds.
pub(crate) async fn open(relays: &[&str]) -> Backend {
    open_with(relays, 2_000, ManualClock::new(NOW), false).await
}

/// The backend, with other times and other relays.
pub(crate) async fn open_with(relays: &[&str], timeout_ms: u64, clock: impl Clock, allow_private: bool) -> Backend {
    let mut context = OpenContext::new("nostr");
    context.clock = Arc::new(clock);
    context.allow_private = allow_private;
    open_in(context, relays, timeout_ms).await
}

/// The backend, in every detail.
pub(crate) async fn open_in(context: OpenContext, relays: &[&str], timeout_ms: u64) -> Backend {
    let serde_json::Value::Object(table) = json!({ "relays": relays, "timeout_ms": timeout_ms }) else {
        unreachable!()
    };
    (talkbox_backend_nostr::backend().open)(BackendConfig::new(table), context).await.expect("opens")
}

/// Its mailbox.
pub(crate) fn mailbox(backend: &Backend) -> &dyn Mailbox {
    &**backend.mailbox.as_ref().expect("both halves")
}

/// Its transport.
pub(crate) fn transport(backend: &Backend) -> &dyn Transport {
    &**backend.transport.as_ref().expect("both halves")
}

/// A relay as a holder is named.
pub(crate) fn holder(url: &str) -> Locator {
    Locator::new("nostr", url).expect("a locator")
}

/// A new key.
pub(crate) fn key() -> SecretKey {
    SecretKey::generate().expect("randomness")
}

/// An envelope and what its sender keeps.
pub(crate) fn sealed(to: MailboxId, text: &str) -> Sealed {
    seal(&Draft::text(text), &key(), to, NOW, &SealOptions::default()).expect("seals")
}

/// So many envelopes.
pub(crate) fn envelopes(to: MailboxId, number: usize) -> Vec<Envelope> {
    (0..number).map(|number| sealed(to, &format!("message {number}")).envelope).collect()
}

/// Answers for a key.
pub(crate) fn auth(key: &SecretKey) -> Arc<dyn Authorizer> {
    Arc::new(KeyAuthorizer::for_anyone(key.clone(), Arc::new(ManualClock::new(NOW))))
}

/// Lists to the end; the ids in order, and the last cursor.
pub(crate) async fn list_all(
    mailbox: &dyn Mailbox,
    owner: MailboxId,
    at: &Locator,
    options: ListOptions,
) -> Result<(Vec<EnvelopeId>, Option<Cursor>)> {
    let mut ids = Vec::new();
    let mut after = options.after.clone();
    loop {
        let Page { items, next, more, .. } = mailbox.list(owner, at, options.clone().after(after)).await?;
        ids.extend(items.iter().map(talkbox_core::RawEnvelope::id));
        if !more {
            return Ok((ids, next));
        }
        assert!(next.is_some(), "there is more, and no way to it");
        after = next;
    }
}

/// Waits for something, at most so long that a test which waits in vain still ends.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it happens in time")
}

/// The ids, in order.
pub(crate) fn sorted(ids: impl IntoIterator<Item = EnvelopeId>) -> Vec<EnvelopeId> {
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort_unstable();
    ids
}

/// The ids of envelopes, in order.
pub(crate) fn ids(envelopes: &[Envelope]) -> Vec<EnvelopeId> {
    sorted(envelopes.iter().map(Envelope::id))
}
