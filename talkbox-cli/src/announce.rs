//! Telling the network where a mailbox is: what `talkbox new` does, and what reading catches up on.

use std::time::Duration;

use serde_json::{Value, json};
use talkbox_core::{SecretKey, Timestamp, client::Announced, config::Origin};

use crate::{
    exit::Outcome,
    keyring::Entry,
    output::{DIM, GOOD},
    session::{Live, Session},
    sync_log,
    text::{REASON, one_line, place},
};

/// How long an announcement may take: its record needs up to a second of work, and the slowest relay some more.
const PATIENCE: Duration = Duration::from_secs(15);
/// How old an announcement may become, in seconds: a week, as `docs/formats.md` §4 says.
const REFRESH: u64 = 7 * 86_400;

/// Who was told where a mailbox is.
#[derive(Debug, Default)]
pub(crate) struct Announcement {
    told: Vec<String>,
    failed: Vec<(String, String)>,
}

impl Announcement {
    fn of(announced: &Announced) -> Self {
        let mut announcement = Self::default();
        for (transport, result) in &announced.receipts {
            match result {
                Ok(receipt) => {
                    announcement.told.extend(receipt.acks.iter().map(|ack| ack.holder.to_string()));
                    let refused =
                        receipt.refused.iter().map(|refusal| (refusal.holder.to_string(), refusal.words.clone()));
                    announcement.failed.extend(refused);
                }
                Err(error) => announcement.failed.push((transport.clone(), error.message().to_owned())),
            }
        }
        announcement
    }

    pub(crate) fn to_json(&self) -> Value {
        let failed = self.failed.iter().map(|(who, why)| json!({"holder": who, "error": why}));
        json!({"stored": self.told, "failed": failed.collect::<Vec<_>>()})
    }

    pub(crate) fn tell(&self, session: &Session) {
        let of = self.told.len() + self.failed.len();
        if of == 0 {
            return;
        }
        let told = self.told.join("  ");
        session.output.note(format_args!("{GOOD}announced{GOOD:#} {}/{of}  {told}", self.told.len()));
        for (who, why) in &self.failed {
            session.output.note(format_args!("{DIM}  not at {}: {}{DIM:#}", place(who), one_line(why, REASON)));
        }
        if self.told.is_empty() {
            session.output.warn("nobody can look the code up yet; `talkbox read` announces it again");
        }
    }
}

/// Announces a new mailbox. Whatever goes wrong is told and is no error: the mailbox is made, and the next command that
/// reads it tries again.
pub(crate) async fn first(session: &Session, entry: &Entry) -> Outcome<Announcement> {
    if !session.is_configured() {
        session.unconfigured_note();
        return Ok(Announcement::default());
    }
    let live = session.open(Some(entry)).await?;
    session.output.progress("announcing …");
    let announcement = announce(session, &live, entry).await;
    session.output.progress_done();
    session.finish(live).await;
    announcement
}

/// Announces a mailbox again where a week has passed, where it moved by its configuration, or where nobody took the last
/// announcement.
pub(crate) async fn refresh(session: &Session, live: &Live, entry: &Entry) {
    let current = terms(session, live);
    let before = sync_log::announced(live.talkbox.store(), entry.id).await.ok().flatten();
    let is_same =
        |(time, terms): &(_, String)| *terms == current && Timestamp::plus(*time, REFRESH) > session.clock.now();
    if before.as_ref().is_some_and(is_same) || live.talkbox.holders().is_empty() {
        return;
    }
    let moved = before.is_some_and(|(_, terms)| !terms.starts_with(&format!("{} ", places(live))));
    // A flag is for one command, and senders go by what is announced for weeks.
    if moved && matches!(session.config.origin("backend"), Origin::Flag { .. }) {
        session.output.note(format_args!(
            "{DIM}senders still go to where the mailbox was announced: to move it, set `backend` in the configuration{DIM:#}"
        ));
        return;
    }
    match announce(session, live, entry).await {
        Ok(announcement) => tracing::info!(told = announcement.told.len(), "announced"),
        Err(failure) => tracing::warn!(error = failure.message(), "not announced"),
    }
}

/// What an announcement says, in one line: where the mailbox lives, what it asks of senders, and over which transports:
/// who moves from one to the other has to be found there.
fn terms(session: &Session, live: &Live) -> String {
    let over: Vec<_> = live.talkbox.backends().transports.iter().map(|(name, _)| name.as_str()).collect();
    let (work, retention) = (session.config.work(), session.config.retention_secs());
    format!("{} work={work} retention={retention} over={}", places(live), over.join(","))
}

fn places(live: &Live) -> String {
    let places: Vec<_> = live.talkbox.holders().iter().map(ToString::to_string).collect();
    places.join(" ")
}

async fn announce(session: &Session, live: &Live, entry: &Entry) -> Outcome<Announcement> {
    let key: &SecretKey = live.key()?;
    let announced = match tokio::time::timeout(session.budget(PATIENCE), live.talkbox.announce(key)).await {
        Ok(Ok(announced)) => Announcement::of(&announced),
        Ok(Err(error)) => Announcement {
            failed: vec![("everybody".to_owned(), error.message().to_owned())],
            ..Announcement::default()
        },
        Err(_) => Announcement {
            failed: vec![("everybody".to_owned(), "no answer in time".to_owned())],
            ..Announcement::default()
        },
    };
    if !announced.told.is_empty() {
        sync_log::set_announced(live.talkbox.store(), entry.id, session.clock.now(), &terms(session, live)).await?;
    }
    Ok(announced)
}
