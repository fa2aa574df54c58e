//! Which logs are followed, and for how long.

use talkbox_core::Result;
use tokio::runtime::Handle;

use super::{Followed, Logs, protocol};
use crate::orbitdb::{LogAddress, MonthLog};

/// A log that is followed as long as this is there.
#[derive(Debug)]
pub(crate) struct Following {
    logs: Logs,
    log: LogAddress,
}

impl Drop for Following {
    fn drop(&mut self) {
        let over = self.logs.followed(|followed| {
            let Some(entry) = followed.get_mut(&self.log) else { return false };
            entry.readers = entry.readers.saturating_sub(1);
            let over = entry.readers == 0 && !entry.kept;
            if over {
                followed.remove(&self.log);
            }
            over
        });
        // Without a runtime the swarm has ended, too.
        if over && let Ok(runtime) = Handle::try_current() {
            let (logs, log) = (self.logs.clone(), self.log.clone());
            runtime.spawn(async move { logs.leave(&log).await });
        }
    }
}

impl Logs {
    /// Follows a log from now on, until it is over. It is stored with the first thing that comes for it: that somebody asks
    /// for a log makes none.
    ///
    /// # Errors
    /// `Unexpected` for an address that names no protocol, which none meets.
    pub(crate) async fn follow(&self, log: &MonthLog) -> Result<()> {
        match self.note(log, |entry| entry.kept = true) {
            true => self.enter(&log.definition.address).await,
            false => Ok(()),
        }
    }

    /// Follows a log as long as what is returned is there.
    ///
    /// # Errors
    /// As [`follow`](Self::follow).
    pub(crate) async fn follow_while(&self, log: &MonthLog) -> Result<Following> {
        let address = &log.definition.address;
        let is_new = self.note(log, |entry| entry.readers += 1);
        let following = Following { logs: self.clone(), log: address.clone() };
        if is_new {
            self.enter(address).await?;
        }
        Ok(following)
    }

    /// Notes that a log is followed. Whether it was not before.
    fn note(&self, log: &MonthLog, how: impl FnOnce(&mut Followed)) -> bool {
        self.followed(|followed| {
            let count = followed.len();
            how(followed.entry(log.definition.address.clone()).or_insert_with(|| Followed::new(log.clone())));
            followed.len() > count
        })
    }

    async fn enter(&self, log: &LogAddress) -> Result<()> {
        // In this order: whoever sees the subscription asks for the heads.
        self.0.link.accept(&protocol(log)?);
        self.0.link.subscribe(log.as_str()).await;
        self.exchange_with_all(log).await;
        Ok(())
    }

    async fn leave(&self, log: &LogAddress) {
        self.0.link.unsubscribe(log.as_str()).await;
        let Ok(protocol) = protocol(log) else { return };
        self.0.link.refuse(&protocol);
        // Somebody may have come back meanwhile.
        if self.follows(log) {
            self.0.link.accept(&protocol);
            self.0.link.subscribe(log.as_str()).await;
        }
    }

    /// Makes room for one more log: of those for which nothing has come yet one is given up. Whether there is room.
    pub(in crate::node) async fn make_room(&self, most: usize) -> bool {
        let given_up = self.followed(|followed| {
            if followed.len() < most {
                return None;
            }
            // Any of them will do: whoever waits for one asks again.
            Some(followed.iter().find(|(_, entry)| !entry.is_open).map(|(log, _)| log.clone()))
        });
        match given_up {
            None => true,
            Some(None) => false,
            Some(Some(log)) => {
                self.unfollow(&log).await;
                true
            }
        }
    }

    /// Follows a log no longer. What is there of it stays.
    pub(crate) async fn unfollow(&self, log: &LogAddress) {
        if self.followed(|followed| followed.remove(log)).is_some() {
            self.leave(log).await;
        }
    }

    /// All that are followed.
    pub(crate) fn all(&self) -> Vec<MonthLog> {
        self.followed(|followed| followed.values().map(|entry| entry.log.clone()).collect())
    }
}
