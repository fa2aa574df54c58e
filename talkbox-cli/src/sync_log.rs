//! When each mailbox was last read from the network, and last announced: settings of the store.

use talkbox_core::{MailboxId, Timestamp, local::Store};

use crate::exit::Outcome;

/// When a mailbox was last read from the network.
pub(crate) async fn last(store: &Store, owner: MailboxId) -> Outcome<Option<Timestamp>> {
    Ok(get(store, &format!("read:{owner}")).await?.and_then(|text| text.parse().ok()).map(Timestamp))
}

/// Remembers that a mailbox was read from the network.
pub(crate) async fn set_last(store: &Store, owner: MailboxId, now: Timestamp) -> Outcome<()> {
    Ok(store.set_setting(&format!("read:{owner}"), Some(now.to_string().as_bytes())).await?)
}

/// When a mailbox was last announced, and with which terms.
pub(crate) async fn announced(store: &Store, owner: MailboxId) -> Outcome<Option<(Timestamp, String)>> {
    let text = get(store, &format!("announced:{owner}")).await?;
    let parsed = text
        .as_deref()
        .and_then(|text| text.split_once(' '))
        .and_then(|(time, places)| Some((Timestamp(time.parse().ok()?), places.to_owned())));
    Ok(parsed)
}

/// Remembers that a mailbox was announced.
pub(crate) async fn set_announced(store: &Store, owner: MailboxId, now: Timestamp, places: &str) -> Outcome<()> {
    Ok(store.set_setting(&format!("announced:{owner}"), Some(format!("{now} {places}").as_bytes())).await?)
}

async fn get(store: &Store, name: &str) -> Outcome<Option<String>> {
    Ok(store.setting(name).await?.and_then(|bytes| String::from_utf8(bytes).ok()))
}
