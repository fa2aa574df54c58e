//! What the writer does in several commits, each behind what has come meanwhile.

use std::time::Instant;

use rusqlite::TransactionBehavior;

use super::{
    super::vanish::{Rest, go_on},
    Desk, Op,
};

impl Desk {
    /// Takes over what a request to vanish has left. From here on nobody is given it.
    pub(super) fn leave(&mut self, rest: Rest) {
        self.rot.leaving().add(rest.key, rest.before);
        // Any of it may be known for recent; it is a matter of speed alone.
        self.recent.clear();
        self.rests.push_back(rest);
    }

    /// Removes a portion of what has to go, and sees that it goes on where there is more to do.
    pub(super) fn go_on(&mut self) {
        let is_well = self.rests.pop_front().is_none_or(|rest| self.clear(rest));
        // What failed is tried again with the next that comes: a full disk is not to be kept busy.
        if (is_well && !self.rests.is_empty() || !self.lanes.is_empty())
            && let Some(queue) = self.queue.upgrade()
        {
            let _received = queue.send(Op::GoOn);
        }
    }

    /// Removes a portion. Whether that was possible.
    fn clear(&mut self, rest: Rest) -> bool {
        let cleared = self.mending(|desk| {
            let tx = desk.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let cleared = go_on(&tx, rest.clone())?;
            tx.commit().map(|()| cleared)
        });
        match cleared {
            Ok((gone, left)) => {
                self.forget(&gone);
                match left {
                    Some(left) => self.rests.push_front(left),
                    None => self.rot.leaving().has_gone(rest.key, rest.before, Instant::now()),
                }
                true
            }
            Err(error) => {
                tracing::debug!(%error, "what has to go could not be removed; it is tried again");
                self.fails(&error, 0);
                self.rests.push_front(rest);
                false
            }
        }
    }
}
