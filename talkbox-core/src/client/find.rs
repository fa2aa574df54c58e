//! Finding a mailbox: what is pinned, what the networks say, and where that leaves a sender.

use std::time::Duration;

use super::{
    REFRESH, Talkbox,
    resolve::{Found, Known, resolve},
};
use crate::{
    Address, Error, ErrorKind, Locator, MailboxId, MailboxRecord, ResolveOptions, Result, Retry, SealOptions,
    Shortcode, Target, local::Pin, record::MAX_LOCATORS,
};

/// Where a mailbox is, and how far that is known.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// Its shortcode, where it has a record.
    pub code: Option<Shortcode>,
    /// Its record; `None` for a key that any Nostr client made.
    pub record: Option<MailboxRecord>,
    /// Where envelopes go: of the record, else of its list of inbox relays, else the hints of the address.
    pub locators: Vec<Locator>,
    /// What became of the pin, where there is a record.
    pub pin: Option<Pin>,
}

impl Resolved {
    /// How the mailbox wants its envelopes sealed.
    pub(super) fn seal_options(&self) -> SealOptions {
        let mut options = SealOptions::default();
        if let Some(record) = &self.record {
            options.retention = record.fields().retention;
            options.work = record.fields().work;
        }
        options
    }
}

impl Talkbox {
    /// Finds the mailbox that an address means. What is pinned is used; the networks are then asked only briefly,
    /// whether it has moved.
    ///
    /// # Errors
    /// `NotFound` where nobody knows it, `Unreachable` where nobody could be asked, `VerificationFailed` where a
    /// second key fits the code.
    pub async fn resolve(&self, address: &Address, budget: Duration) -> Result<Resolved> {
        let pinned = match address.target() {
            Target::Code(code) => self.0.store.pinned(code).await?,
            Target::Mailbox(id) => self.0.store.pinned_by_id(id).await?,
        };
        let known = self.known(&address.target(), pinned.as_ref()).await?;
        let budget = if pinned.is_some() { budget.min(REFRESH) } else { budget };
        let hints: Vec<Locator> = address.hints().iter().filter_map(|url| Locator::new("nostr", url).ok()).collect();
        let options = ResolveOptions::default().hints(hints.iter().cloned());
        let transports = &self.0.opened.transports;
        let found = resolve(transports, &address.target(), &options, &known, self.0.clock.now(), budget).await;
        self.learn(&address.target(), &known, &found).await?;
        match (found.record.clone(), pinned) {
            (Some(record), _) => self.take(record).await,
            (None, Some(pinned)) => Ok(Resolved::of(pinned, Some(Pin::Unchanged))),
            (None, None) => without_record(&address.target(), hints, found),
        }
    }

    async fn known(&self, target: &Target, pinned: Option<&MailboxRecord>) -> Result<Known> {
        let failed = match target {
            Target::Code(code) => self.0.store.failed_candidates(*code).await?.into_iter().collect(),
            Target::Mailbox(_) => Default::default(),
        };
        Ok(Known { pinned: pinned.map(|record| record.event().author()), failed })
    }

    /// Remembers what failed, and refuses a code that two keys fit.
    async fn learn(&self, target: &Target, known: &Known, found: &Found) -> Result<()> {
        let Target::Code(code) = target else { return Ok(()) };
        for key in &found.failed {
            self.0.store.remember_failed(*code, *key).await?;
        }
        found.refuse_rivals(*code, known.pinned)
    }

    async fn take(&self, record: MailboxRecord) -> Result<Resolved> {
        let pin = self.0.store.pin(&record, record.code()).await?;
        Ok(Resolved::of(record, Some(pin)))
    }

    /// Whether a code may be known: pinned before.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn is_known(&self, code: Shortcode) -> Result<bool> {
        Ok(self.0.store.pinned(code).await?.is_some())
    }
}

impl Resolved {
    fn of(record: MailboxRecord, pin: Option<Pin>) -> Self {
        Self {
            mailbox: record.mailbox(),
            code: Some(record.code()),
            locators: record.fields().locators.clone(),
            record: Some(record),
            pin,
        }
    }

    /// A key without a record, at these places.
    pub(super) fn at(mailbox: MailboxId, locators: Vec<Locator>) -> Self {
        Self { mailbox, code: None, record: None, locators, pin: None }
    }
}

/// A key that published no record can still be written to, where it reads its direct messages or its hints say.
fn without_record(target: &Target, hints: Vec<Locator>, found: Found) -> Result<Resolved> {
    let places = if found.inbox_relays.is_empty() { hints } else { found.inbox_relays.clone() };
    match target {
        Target::Mailbox(id) if !places.is_empty() => {
            Ok(Resolved::at(*id, places.into_iter().take(MAX_LOCATORS).collect()))
        }
        _ => Err(missing(target, found).op("resolve")),
    }
}

/// Nobody knows it, or nobody could be asked; to be tried again where not everybody was.
fn missing(target: &Target, found: Found) -> Error {
    let error = match (found.ended, target) {
        (0, _) => Error::new(ErrorKind::Unreachable, "nobody could be asked where this mailbox is"),
        (_, Target::Code(_)) => Error::new(ErrorKind::NotFound, "nobody that was asked knows this code"),
        (_, Target::Mailbox(_)) => Error::new(ErrorKind::NotFound, "nobody that was asked knows where this key reads"),
    };
    // Somebody who may not be asked from here stays silent, however often. Whatever else fails may go better.
    let may_not_be_asked = |error: &Error| error.kind() == ErrorKind::Unreachable && error.retry_advice() == Retry::No;
    let somebody = found.ended > 0 || !found.errors.is_empty();
    let for_good = found.in_time && somebody && found.errors.iter().all(may_not_be_asked);
    let retry = if for_good { Retry::No } else { Retry::After(None) };
    let failed = found.errors.len();
    let error = error.retry(retry);
    match found.errors.into_iter().next() {
        Some(cause) if found.ended > 0 => error.with("not asked", failed).source(Box::new(cause)),
        Some(cause) => error.source(Box::new(cause)),
        None => error,
    }
}
