//! Who the peers are. Only the operator adds to them.

use std::sync::Arc;

use serde_json::{Value, json};
use talkbox_core::{PublicKey, Timestamp};

use crate::node::metrics::PeerGauges;

use super::{
    address::PeerAddress,
    peer::{Peer, PeerRow},
};

/// All peers of the node.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    peers: Vec<Arc<Peer>>,
}

impl Roster {
    /// Those of the operator's list, with what is remembered of them.
    pub(crate) fn new(addresses: Vec<PeerAddress>, rows: Vec<PeerRow>) -> Self {
        let peer = |address: PeerAddress| {
            let row = rows.iter().find(|row| row.name == address.name()).cloned();
            Arc::new(Peer::new(address, row))
        };
        Self { peers: addresses.into_iter().map(peer).collect() }
    }

    pub(crate) fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }

    /// The peer that has this key.
    pub(crate) fn of_key(&self, key: &PublicKey) -> Option<&Arc<Peer>> {
        self.peers.iter().find(|peer| peer.key().as_ref() == Some(key))
    }

    /// Whether all that peers hold was compared with one of them, or there is nobody to compare with.
    pub(crate) fn is_compared(&self) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer.health().compared.is_some())
    }

    /// The peers as they are measured.
    pub(crate) fn gauges(&self, last: i64) -> Vec<PeerGauges> {
        let gauges = |peer: &Arc<Peer>| {
            let health = peer.health();
            PeerGauges {
                name: peer.address.name().to_owned(),
                is_up: health.fault.is_none() && health.seen.is_some(),
                behind: last.saturating_sub(peer.acknowledged()).max(0).unsigned_abs(),
                missing_here: health.missing_here,
                missing_there: health.missing_there,
                compared: health.compared.map_or(0, Timestamp::secs),
            }
        };
        self.peers.iter().map(gauges).collect()
    }

    /// The peers as they are shown, with how many events wait for each. What went wrong tells of this machine and its
    /// network, and is not for everybody.
    pub(crate) fn shown(&self, last: i64, with_faults: bool) -> Vec<Value> {
        let secs = |time: Option<Timestamp>| time.map(Timestamp::secs);
        let shown = |peer: &Arc<Peer>| {
            let health = peer.health();
            let state = match &health {
                health if health.is_self => "self",
                health if health.fault.is_some() => "away",
                health if health.seen.is_some() => "ok",
                _ => "unmet",
            };
            json!({
                "url": peer.address.name(),
                "key": peer.key().map(|key| key.to_hex()),
                "state": state,
                "fault": health.fault.filter(|_| with_faults),
                "seen": secs(health.seen),
                "compared": secs(health.compared),
                "missing_here": health.missing_here,
                "missing_there": health.missing_there,
                "behind": last.saturating_sub(peer.acknowledged()).max(0),
            })
        };
        self.peers.iter().map(shown).collect()
    }
}
