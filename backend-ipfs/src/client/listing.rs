//! What a peer has for a mailbox: the logs of its open months are reconciled with the peer, what is lacked here is
//! fetched, and what the peer turns out to have is numbered in the order in which that is noticed.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use talkbox_core::{Cursor, EnvelopeId, ErrorKind, MailboxId, Page, RawEnvelope, Result};

use super::{
    cursor::Place,
    network::{Holder, Network},
};
use crate::{
    orbitdb::MonthLog,
    sync::{self, Digest},
};

/// Items of a page, and the most of one: half a thousand of the largest are 32 MiB.
const PAGE: u32 = 100;
const MAX_PAGE: u32 = 500;
/// Logs that are reconciled at once: the months of a mailbox.
const AT_ONCE: usize = 6;

/// One page.
///
/// # Errors
/// `NotFound` for a cursor of another store; `Unreachable`, `Timeout`; those of the store.
pub(super) async fn list(
    network: &Arc<Network>,
    owner: MailboxId,
    holder: &Holder,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<Page> {
    let limit = if limit == 0 { PAGE } else { limit.min(MAX_PAGE) };
    let seq = match after {
        Some(cursor) => Place::read(cursor, network.epoch)?.seq,
        None => 0,
    };
    let mut rows = network.seen.after(&holder.name(), owner, seq, limit).await?;
    // In the middle of a listing the rest of it is known already. Its end is where the peer's is.
    if after.is_none() || rows.len() <= limit as usize {
        look(network, owner, holder).await?;
        rows = network.seen.after(&holder.name(), owner, seq, limit).await?;
    }
    page(network, owner, rows, seq, limit).await
}

/// These, if the peer has them.
///
/// # Errors
/// As [`list`].
pub(super) async fn fetch(
    network: &Arc<Network>,
    owner: MailboxId,
    holder: &Holder,
    ids: &[EnvelopeId],
) -> Result<Page> {
    look(network, owner, holder).await?;
    let known = network.seen.among(&holder.name(), ids.to_vec()).await?;
    let items = network.peer.store.get(owner, known).await?;
    Ok(Page { items: raw(items), next: None, more: false })
}

/// The page of some rows, of which there may be one more than it holds.
async fn page(
    network: &Network,
    owner: MailboxId,
    mut rows: Vec<(i64, EnvelopeId)>,
    after: i64,
    limit: u32,
) -> Result<Page> {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let seq = rows.last().map_or(after, |(seq, _)| *seq);
    let items = network.peer.store.get(owner, rows.into_iter().map(|(_, id)| id).collect()).await?;
    Ok(Page { items: raw(items), next: Some(Place { epoch: network.epoch, seq }.cursor()), more })
}

fn raw(items: Vec<(EnvelopeId, Arc<str>)>) -> Vec<RawEnvelope> {
    items.into_iter().filter_map(|(id, json)| RawEnvelope::new(id, json).ok()).collect()
}

/// Finds out what a peer has in all logs in which mail may be.
///
/// # Errors
/// `Unreachable`, `Timeout`; those of the store.
pub(super) async fn look(network: &Arc<Network>, owner: MailboxId, holder: &Holder) -> Result<()> {
    network.connect(holder).await?;
    let logs = network.peer.logs.open_logs(owner);
    let looks = stream::iter(logs).map(|log| async move { look_at(network, holder, &log).await });
    let mut looks = looks.buffer_unordered(AT_ONCE);
    while let Some(looked) = looks.next().await {
        looked?;
    }
    Ok(())
}

async fn look_at(network: &Arc<Network>, holder: &Holder, log: &MonthLog) -> Result<()> {
    match lacking(network, holder, log).await? {
        Some(lacking) => network.seen.all_but(&holder.name(), log.mailbox, &log.definition.address, &lacking).await,
        None => Ok(()),
    }
}

/// Fetches what a connected peer has more of a log than is here, and says which entries of those that are here it lacks.
/// `None` where it does not keep the log.
///
/// # Errors
/// `Unreachable`, `Timeout`; those of the store.
pub(super) async fn lacking(network: &Network, holder: &Holder, log: &MonthLog) -> Result<Option<Vec<Digest>>> {
    let logs = &network.peer.logs;
    network.peer.store.open_log(log.clone()).await?;
    match network.open_stream(holder.peer(), sync::SYNC).await {
        Ok(stream) => match logs.reconcile(log, holder.peer(), stream).await {
            Ok(lacking) => Ok(Some(lacking)),
            // It keeps nothing for this mailbox.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        },
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            // A peer of another kind shows its heads to whoever follows the log.
            logs.follow(log).await?;
            logs.read_from_heads(log, holder.peer()).await
        }
        Err(error) => Err(error),
    }
}
