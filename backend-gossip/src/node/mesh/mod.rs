//! The mesh: nodes that hold the same.
//!
//! Three things keep them so. What a client brings is **pushed** to every peer at once, by an outbox for each peer that
//! goes by the order of arrival and remembers on disk how far the peer has acknowledged; a peer that was away gets
//! exactly what it missed. **Anti-entropy** is the proof: now and then two nodes compare all that they hold and exchange
//! what differs, whoever brought it and whatever got lost. And what is **damaged** is fetched anew from a peer that has it.
//!
//! What a peer brings is not pushed on: whoever it came from pushes it to all. `docs/decisions/0007` says why.
//!
//! Everything that a peer says is checked as what anybody says. A peer that lies, floods or hangs costs only itself: it is
//! asked less and less often.

mod address;
mod ask;
mod candidates;
mod conduct;
mod exchange;
mod heal;
mod hints;
mod pause;
mod peer;
mod push;
mod roster;
mod rounds;

use std::sync::Arc;

use talkbox_core::Result;
use tokio::task::JoinSet;

use self::exchange::Exchange;
pub(crate) use self::{address::PeerAddress, candidates::Candidates, hints::Hints, peer::PeerRow, roster::Roster};
use super::Shared;

/// Starts what keeps the node and its peers alike. It ends when the set is dropped, or the node stops.
pub(crate) fn start(node: &Arc<Shared>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let exchange = |peer| Arc::new(Exchange::new(Arc::clone(node), Arc::clone(peer)));
    let peers: Vec<_> = node.roster.peers().iter().map(exchange).collect();
    for peer in &peers {
        tasks.spawn(push::run(Arc::clone(peer)));
        tasks.spawn(hints::run(Arc::clone(peer)));
        tasks.spawn(rounds::run(Arc::clone(peer)));
    }
    tasks.spawn(heal::run(Arc::clone(node), peers));
    let looks = node.candidates.has_sources() || !node.roster.peers().is_empty();
    if looks {
        tasks.spawn(candidates::run(Arc::clone(node)));
    }
    tasks
}

/// Reads the addresses of peers.
///
/// # Errors
/// `ConfigInvalid` for one that is none, or that is named twice.
pub(crate) fn addresses(texts: &[String]) -> Result<Vec<PeerAddress>> {
    address::read(texts)
}
