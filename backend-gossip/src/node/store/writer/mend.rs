//! What the writer does where the disk did not keep what was stored.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::TransactionBehavior;
use talkbox_core::{Timestamp, anti_entropy::Item};

use super::{
    super::{
        heal::{Healed, heal, is_index, look_at_the_disk},
        query,
    },
    Desk,
};
use crate::node::{admitted::Admitted, live::Fresh};

/// The least time between two times that all indexes are made anew. It takes some five seconds for a million events, in
/// which nothing is stored; a disk that spoils them faster than this is not to be kept up with.
const MEND_EVERY: Duration = Duration::from_secs(600);

impl Desk {
    /// Puts a row right, in a commit of its own: it is rare.
    pub(super) fn heal(&mut self, place: i64, event: Arc<Admitted>) {
        let healed = self.mending(|desk| {
            look_at_the_disk(&desk.conn)?;
            let tx = desk.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let healed = heal(&tx, place, &event)?;
            tx.commit().map(|()| healed)
        });
        match healed {
            Ok(Healed { wrong, seq: Some(seq) }) => {
                self.forget(wrong.as_slice());
                if let Ok(item) = Item::new(Timestamp(event.facts.created_at), event.facts.id) {
                    self.held.write().unwrap_or_else(PoisonError::into_inner).insert(item);
                }
                self.rot.is_right(place);
                self.live.pass_on(&Fresh { seq: Some(seq), event });
            }
            Ok(Healed { wrong, seq: None }) => {
                self.forget(wrong.as_slice());
                self.rot.forget(place);
            }
            Err(error) => {
                tracing::error!(%error, place, "a damaged row could not be put right");
                self.rot.note(&error);
            }
        }
    }

    /// Does something that may fail because an index and its table are not of one mind: then makes the indexes anew, from
    /// the rows, and tries once more.
    pub(super) fn mending<T>(&mut self, mut work: impl FnMut(&mut Self) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        match work(self) {
            Err(error) if is_index(&error) => {
                self.mend()?;
                work(self)
            }
            done => done,
        }
    }

    /// Makes the indexes anew, and what counts as held, which was read from one of them.
    pub(super) fn mend(&mut self) -> rusqlite::Result<()> {
        if self.mended.is_some_and(|mended| mended.elapsed() < MEND_EVERY) {
            return Ok(());
        }
        self.mended = Some(Instant::now());
        tracing::warn!("the indexes are not what they should be, and are made anew");
        self.conn.execute_batch("REINDEX")?;
        let held = query::held(&self.conn)?;
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
        self.metrics.mended.add(1);
        Ok(())
    }
}
