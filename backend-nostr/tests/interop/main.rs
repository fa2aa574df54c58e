//! Nostr by other people: relays that we ask, and a client that asks our node. `scripts/test` says where they are.

mod nostr_sdk;
mod relays;

use std::{env, ffi::OsString, sync::Arc};

use serde_json::json;
use talkbox_core::{
    Authorizer, Backend, BackendConfig, Cursor, Draft, Envelope, EnvelopeId, KeyAuthorizer, ListOptions, Locator,
    Mailbox, OpenContext, SealOptions, SecretKey, SystemClock, Timestamp, clock::Clock as _, seal,
};

/// Where a peer is; `None` where the variable does not say that it is there.
#[expect(clippy::print_stderr, reason = "a skipped test has to be seen")]
fn peer(variable: &str) -> Option<OsString> {
    let place = env::var_os(variable).filter(|place| !place.is_empty());
    if place.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    place
}

fn key() -> SecretKey {
    SecretKey::generate().expect("randomness")
}

fn envelopes(to: &SecretKey, number: usize) -> Vec<Envelope> {
    envelopes_of(to, number, SystemClock.now())
}

fn envelopes_of(to: &SecretKey, number: usize, then: Timestamp) -> Vec<Envelope> {
    let one = || seal(&Draft::text("hello"), &key(), to.id(), then, &SealOptions::default()).expect("seals").envelope;
    std::iter::repeat_with(one).take(number).collect()
}

async fn open(url: &str) -> Backend {
    let serde_json::Value::Object(table) = json!({ "relays": [url] }) else { unreachable!() };
    (talkbox_backend_nostr::backend().open)(BackendConfig::new(table), OpenContext::new("nostr")).await.expect("opens")
}

/// Answers for a key.
fn auth(key: &SecretKey) -> Arc<dyn Authorizer> {
    Arc::new(KeyAuthorizer::for_anyone(key.clone(), Arc::new(SystemClock)))
}

/// Everything that a relay has for a mailbox, asked for as its owner and in pages of so many; and where it ends.
async fn list_all(
    mailbox: &dyn Mailbox,
    owner: &SecretKey,
    at: &Locator,
    page: u32,
) -> (Vec<Envelope>, Option<Cursor>) {
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let options = ListOptions::default().auth(Some(auth(owner))).limit(page).after(after);
        let page = mailbox.list(owner.id(), at, options).await.expect("lists");
        listed.extend(page.items.iter().map(|raw| Envelope::verify(raw).expect("genuine")));
        after = page.next;
        if !page.more {
            return (listed, after);
        }
    }
}

fn sorted(ids: impl IntoIterator<Item = EnvelopeId>) -> Vec<EnvelopeId> {
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort_unstable();
    ids
}
