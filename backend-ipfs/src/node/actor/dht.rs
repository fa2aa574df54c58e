//! The DHT: who provides what, and whose addresses are worth telling others.

use std::collections::HashSet;

use libp2p::{
    PeerId, identify,
    kad::{self, QueryId, QueryResult, store::MemoryStore},
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use tokio::sync::oneshot;

use super::{Actor, Happening, Lookup};

/// Providers of one key that are told: enough to find one that is there.
const MAX_PROVIDERS: usize = 20;
/// Peers of the DHT that are enough to announce something to: twice as many as are told of it.
const ENOUGH_OF_DHT: usize = 32;

impl Actor {
    /// What a peer says of itself leads others there: only where they may go.
    pub(super) fn introduced(&mut self, peer: PeerId, info: identify::Info) {
        let places: Vec<_> = info.listen_addrs.into_iter().filter(|place| self.reach.allows(place)).collect();
        if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut()
            && info.protocols.iter().any(|protocol| kad.protocol_names().contains(protocol))
        {
            for place in &places {
                kad.add_address(&peer, place.clone());
            }
        }
        self.happens(Happening::Introduced { peer, places, protocols: info.protocols });
    }

    /// Tells when a peer of the DHT is known.
    pub(super) fn enter(&mut self, told: oneshot::Sender<()>) {
        let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() else { return };
        if known(kad) > 0 {
            // Whoever asked may have gone.
            let _ = told.send(());
        } else {
            // As many as look something up at once: those that have given up are let go with the next.
            self.entering.retain(|waiting| !waiting.is_closed());
            self.entering.push(told);
        }
    }

    /// Looks for the peers of the DHT that are near this one, by those that are known, if any are.
    pub(super) fn look_around(&mut self) {
        if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut()
            && known(kad) > 0
            && let Err(error) = kad.bootstrap()
        {
            tracing::debug!(%error, "the DHT is not looked around in");
        }
    }

    pub(super) fn kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::OutboundQueryProgressed { id, result: QueryResult::GetProviders(result), step, .. } => {
                if let Ok(kad::GetProvidersOk::FoundProviders { providers, .. }) = result {
                    self.provided(id, providers);
                }
                if step.last {
                    self.looked(id);
                }
            }
            kad::Event::RoutingUpdated { is_new_peer: true, .. } => {
                for waiting in self.entering.drain(..) {
                    // Whoever waited may have gone.
                    let _ = waiting.send(());
                }
                let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() else { return };
                let known = known(kad);
                // What was announced to nobody, or to few, is announced again; the more are known, the less often.
                if known.is_power_of_two() && known <= ENOUGH_OF_DHT {
                    self.happens(Happening::Reached);
                }
            }
            kad::Event::InboundRequest { request: kad::InboundRequest::AddProvider { record: Some(record) } } => {
                use kad::store::RecordStore as _;
                let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() else { return };
                if let Err(error) = kad.store_mut().add_provider(record) {
                    tracing::debug!(%error, "a provider is not remembered");
                }
            }
            _ => {}
        }
    }

    /// A look-up found providers. They are dialled at once: only while it lasts are their addresses known.
    fn provided(&mut self, id: QueryId, providers: HashSet<PeerId>) {
        let own = *self.swarm.local_peer_id();
        let mut dial = Vec::new();
        let behaviour = self.swarm.behaviour_mut();
        match self.lookups.get_mut(&id) {
            Some(Lookup::Block(cid, seen)) => {
                behaviour.bitswap.want(*cid, &[]);
                for peer in providers.into_iter().filter(|peer| *peer != own) {
                    if seen.len() < MAX_PROVIDERS && seen.insert(peer) {
                        dial.push(peer);
                    }
                }
            }
            Some(Lookup::Key(found, seen)) => {
                for peer in providers.into_iter().filter(|peer| *peer != own) {
                    if seen.len() < MAX_PROVIDERS && seen.insert(peer) {
                        // Room for as many as are told.
                        let _ = found.try_send(peer);
                        dial.push(peer);
                    }
                }
            }
            None => {}
        }
        for peer in dial.into_iter().filter(|peer| !self.swarm.is_connected(peer)).collect::<Vec<_>>() {
            let opts = DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing).build();
            if let Err(error) = self.swarm.dial(opts) {
                tracing::debug!(%error, "a provider is not dialled");
            }
        }
    }

    /// A look-up is over.
    fn looked(&mut self, id: QueryId) {
        if let Some(Lookup::Block(cid, seen)) = self.lookups.remove(&id)
            && seen.is_empty()
        {
            self.fetched(cid, None);
        }
    }
}

/// How many peers of the DHT are known.
fn known(kad: &mut kad::Behaviour<MemoryStore>) -> usize {
    kad.kbuckets().map(|bucket| bucket.num_entries()).sum()
}
