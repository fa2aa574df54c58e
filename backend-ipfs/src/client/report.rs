//! How the logs of a mailbox stand: here, at peers, and at pinning services. It is what `talkbox log` shows.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use talkbox_core::{BackendConfig, Error, ErrorKind, Locator, MailboxId, OpenContext, Result};
use tokio::time::timeout;

use super::{
    config::IpfsConfig,
    listing::lacking,
    network::{Holder, Network},
};
use crate::{
    orbitdb::{MonthLog, link},
    pinning::{PinReport, PinSettings},
};

/// Heads of a log that are named: a log that is written to by few has one or two.
const HEADS: usize = 16;
/// How long one peer may take for all months, once it is connected: a large log may have to be fetched first.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the logs of one mailbox stand.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct LogReport {
    /// Each month that has anything here, the earliest first.
    pub months: Vec<MonthReport>,
    /// Each peer that was asked; none where only what is here was looked at.
    pub peers: Vec<PeerReport>,
    /// Each month at each pinning service.
    pub pins: Vec<PinReport>,
}

/// What is here of the log of one month.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct MonthReport {
    /// The month, as `2026-11`.
    pub month: String,
    /// The address of its log, which is its name on the network.
    pub address: String,
    /// Entries, also those that wait.
    pub entries: u64,
    /// Entries that wait for one that they name and that nobody has brought yet.
    pub waiting: u64,
    /// Bytes of all entries.
    pub bytes: u64,
    /// How many heads there are.
    pub head_count: u64,
    /// The heads, the greatest first; at most 16.
    pub heads: Vec<String>,
}

/// What one peer says that it has.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PeerReport {
    /// Where it is.
    pub holder: String,
    /// Whether it could be connected to.
    pub reachable: bool,
    /// What went wrong.
    pub error: Option<String>,
    /// Each month of which there is anything.
    pub months: Vec<PeerMonth>,
}

/// What one peer has of one month.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PeerMonth {
    /// The month.
    pub month: String,
    /// Entries that it has; none where it does not keep the log.
    pub entries: Option<u64>,
    /// Entries that are known and that it lacks: 0 where its heads are in step.
    pub behind: u64,
}

/// How the logs of a mailbox stand: with `ask`, the configured peers and those of `at` are asked, and what they have more
/// is fetched; else what is here alone is looked at.
///
/// # Errors
/// Those of opening the backend; `Storage`. What became of each peer is in the answer.
pub async fn report(
    config: BackendConfig,
    context: OpenContext,
    mailbox: MailboxId,
    at: &[Locator],
    ask: bool,
) -> Result<LogReport> {
    with_network(config, context, async |network| {
        let months = network.peer.logs.open_logs(mailbox);
        let mut peers = if ask { ask_all(network, &months, at).await? } else { Vec::new() };
        let (here, total) = here(network, mailbox).await?;
        for month in peers.iter_mut().flat_map(|peer| &mut peer.months) {
            // All that any peer has is here by now.
            let known = total.iter().find(|(name, _)| *name == month.month).map_or(0, |(_, entries)| *entries);
            month.behind = known.saturating_sub(month.entries.unwrap_or_default());
        }
        peers
            .iter_mut()
            .for_each(|peer| peer.months.retain(|month| month.entries.unwrap_or_default() + month.behind > 0));
        let pins = match &network.peer.pins {
            Some(keeper) => keeper.status().await?,
            None => Vec::new(),
        };
        let is_ours = |pin: &PinReport| here.iter().any(|month| month.address == pin.log);
        let pins = pins.into_iter().filter(is_ours).collect();
        Ok(LogReport { months: here, peers, pins })
    })
    .await
}

/// The pinning services that the settings of a backend name.
///
/// # Errors
/// `ConfigInvalid`.
pub fn pin_settings(config: BackendConfig) -> Result<Vec<PinSettings>> {
    let config: IpfsConfig = config.read()?;
    config.check()?;
    Ok(config.pins)
}

/// Opens the backend, does something with it, and closes it.
async fn with_network<T>(
    config: BackendConfig,
    context: OpenContext,
    work: impl AsyncFnOnce(&Arc<Network>) -> Result<T>,
) -> Result<T> {
    let config: IpfsConfig = config.read()?;
    config.check()?;
    let network = Arc::new(Network::open(&config, context).await?);
    let done = work(&network).await;
    network.peer.close().await;
    done
}

/// What is here, and how many entries of each month.
async fn here(network: &Network, mailbox: MailboxId) -> Result<(Vec<MonthReport>, Vec<(String, u64)>)> {
    let store = &network.peer.store;
    let mut logs = store.logs().await?;
    logs.retain(|log| log.mailbox == mailbox && log.entries > 0);
    logs.sort_by_key(|log| log.month);
    let total = logs.iter().map(|log| (log.month.to_string(), log.entries)).collect();
    let mut months = Vec::new();
    for log in logs {
        let heads = store.heads(&log.address, HEADS).await?;
        months.push(MonthReport {
            month: log.month.to_string(),
            address: log.address.as_str().to_owned(),
            entries: log.entries,
            waiting: log.waiting,
            bytes: log.bytes,
            head_count: log.heads,
            heads: heads.iter().map(|head| link::to_text(&head.cid)).collect(),
        });
    }
    Ok((months, total))
}

/// Connects to all peers at once, and asks one after another: what each has is counted against what is here by then.
async fn ask_all(network: &Arc<Network>, months: &[MonthLog], at: &[Locator]) -> Result<Vec<PeerReport>> {
    let mut holders = network.holders().to_vec();
    for named in at.iter().filter_map(|locator| network.holder(locator).ok()) {
        if !holders.iter().any(|holder| holder.peer() == named.peer()) {
            holders.push(named);
        }
    }
    let connected = join_all(holders.iter().map(|holder| network.connect(holder))).await;
    let mut peers = Vec::new();
    for (holder, connected) in holders.iter().zip(connected) {
        let mut peer = PeerReport {
            holder: holder.locator.to_string(),
            reachable: connected.is_ok(),
            error: None,
            months: Vec::new(),
        };
        let asked = match connected {
            Ok(()) => match timeout(PATIENCE, ask_one(network, holder, months, &mut peer.months)).await {
                Ok(asked) => asked,
                Err(_) => Err(Error::new(ErrorKind::Timeout, "the peer does not answer in time")),
            },
            Err(error) => Err(error),
        };
        match asked {
            Err(error) if error.kind() == ErrorKind::Storage => return Err(error),
            asked => peer.error = asked.err().map(|error| error.message().to_owned()),
        }
        peers.push(peer);
    }
    Ok(peers)
}

/// What one peer has, month by month.
async fn ask_one(
    network: &Arc<Network>,
    holder: &Holder,
    logs: &[MonthLog],
    months: &mut Vec<PeerMonth>,
) -> Result<()> {
    for log in logs {
        let entries = match lacking(network, holder, log).await? {
            Some(lacking) => {
                let known = match network.peer.store.entries(&log.definition.address).await {
                    // Nothing came for it.
                    Err(error) if error.kind() == ErrorKind::NotFound => 0,
                    known => known?,
                };
                Some(known.saturating_sub(lacking.len() as u64))
            }
            None => None,
        };
        months.push(PeerMonth { month: log.month.to_string(), entries, behind: 0 });
    }
    Ok(())
}
