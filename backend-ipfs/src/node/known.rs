//! The peers that this one has met, and where they were: after a restart they are looked for there, without a DHT.

use libp2p::{Multiaddr, PeerId};
use rusqlite::params;
use talkbox_core::{Result, Timestamp};

use super::address::PeerAddress;
use crate::store::Store;

/// Peers that are remembered; those that were met longest ago are forgotten.
pub(super) const MOST: usize = 256;
/// Addresses of one peer: its transports in both families of addresses.
const MAX_ADDRESSES: usize = 4;

/// Peers, in a table of their own.
#[derive(Clone, Debug)]
pub(super) struct KnownPeers(Store);

impl KnownPeers {
    /// Makes the table where it is not there.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn open(store: Store) -> Result<Self> {
        store
            .with(|db| {
                Ok(db.execute_batch(
                    "CREATE TABLE IF NOT EXISTS peers (
                         address TEXT PRIMARY KEY,
                         peer TEXT NOT NULL,
                         met INTEGER NOT NULL
                     ) STRICT, WITHOUT ROWID;
                     CREATE INDEX IF NOT EXISTS peers_by_meeting ON peers (met);",
                )?)
            })
            .await?;
        Ok(Self(store))
    }

    /// Peers were met, and say that they are at these places, of which the first few count.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn met(
        &self,
        peers: impl IntoIterator<Item = (PeerId, Vec<Multiaddr>)>,
        now: Timestamp,
    ) -> Result<()> {
        let now = i64::try_from(now.secs()).unwrap_or(i64::MAX);
        let named = peers.into_iter().map(|(peer, places)| {
            let places = places.into_iter().take(MAX_ADDRESSES);
            let addresses = places.map(|place| PeerAddress { peer, place }.to_string());
            (peer.to_string(), addresses.collect::<Vec<_>>())
        });
        let named: Vec<_> = named.collect();
        self.0
            .with(move |db| {
                let mut delete = db.prepare_cached("DELETE FROM peers WHERE peer = ?1")?;
                let mut insert =
                    db.prepare_cached("INSERT OR REPLACE INTO peers (address, peer, met) VALUES (?1, ?2, ?3)")?;
                for (name, addresses) in named {
                    delete.execute([&name])?;
                    for address in addresses {
                        insert.execute(params![address, name, now])?;
                    }
                }
                let count: i64 = db.prepare_cached("SELECT count(*) FROM peers")?.query_row([], |row| row.get(0))?;
                let mut forget = db.prepare_cached(
                    "DELETE FROM peers WHERE address IN (SELECT address FROM peers ORDER BY met LIMIT ?1)",
                )?;
                forget.execute([(count - MOST as i64).max(0)])?;
                Ok(())
            })
            .await
    }

    /// Where peers were, those that were met last first.
    ///
    /// # Errors
    /// `Storage`.
    pub(super) async fn latest(&self, most: usize) -> Result<Vec<PeerAddress>> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let addresses = self.0.with(move |db| {
            let mut select = db.prepare_cached("SELECT address FROM peers ORDER BY met DESC, address LIMIT ?1")?;
            Ok(select.query_map([most], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?)
        });
        Ok(addresses.await?.iter().filter_map(|address| address.parse().ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use talkbox_core::{ManualClock, SecretKey};

    use super::*;
    use crate::{node::key, store::StoreLimits};

    #[tokio::test]
    async fn who_was_met_last_is_remembered_longest() {
        let clock = Arc::new(ManualClock::new(Timestamp(1_800_000_000)));
        let store = Store::open(None, clock, StoreLimits::default()).await.expect("opens");
        let known = KnownPeers::open(store).await.expect("opens");
        let peer = || {
            let key = SecretKey::generate().expect("randomness");
            key::identity(&key).expect("an identity").public().to_peer_id()
        };
        let place = |port: u64| -> Multiaddr { format!("/ip4/192.0.2.1/tcp/{port}").parse().expect("an address") };
        let first = peer();
        known.met([(first, vec![place(1), place(2)])], Timestamp(1)).await.expect("is noted");
        // It has moved.
        known.met([(first, vec![place(3)])], Timestamp(2)).await.expect("is noted");
        assert_eq!(known.latest(9).await.expect("reads"), [PeerAddress { peer: first, place: place(3) }]);
        for at in 0..300 {
            known.met([(peer(), vec![place(at + 10)])], Timestamp(at + 10)).await.expect("is noted");
        }
        let latest = known.latest(1_000).await.expect("reads");
        assert_eq!(latest.len(), 256);
        assert!(latest.iter().all(|known| known.peer != first) && latest[0].place == place(309));
    }
}
