//! What the command shows of pins.

use talkbox_core::{Error, ErrorKind, Timestamp};

use super::{
    api::{Listing, PinStatus, State},
    ledger::LogPins,
    shelf::KeptLog,
};

/// How one envelope stands at one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is below a root that is pinned.
    Pinned,
    /// It is on its way.
    Pending,
    /// It is below a root that the service gave up, or did not take; it is tried again.
    Failed {
        /// What the service says, or what went wrong.
        why: String,
    },
}

impl Standing {
    /// How the mail with this number in the store stands.
    pub(super) fn of(pins: &LogPins, seq: i64) -> Self {
        if pins.held.as_ref().is_some_and(|held| seq <= held.covered) {
            return Self::Pinned;
        }
        match &pins.wanted {
            Some(wanted) if seq <= wanted.covered && wanted.is_failed() => {
                Self::Failed { why: wanted.details.clone().unwrap_or_default() }
            }
            _ => Self::Pending,
        }
    }
}

/// How one log stands at one service: a line of `talkbox pin status`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PinReport {
    /// The address of the log.
    pub log: String,
    /// Its name.
    pub name: String,
    /// The service.
    pub service: String,
    /// `pinned` where all that is here is pinned; else the state of what was asked for, or `pending` before that.
    pub state: &'static str,
    /// The root that is pinned, or the one that is asked for where none is.
    pub root: Option<String>,
    /// How many entries are pinned.
    pub covered: u64,
    /// How many there are.
    pub of: u64,
    /// How often the service was asked for what is not pinned yet.
    pub attempts: u32,
    /// When that was last.
    pub tried_at: Option<Timestamp>,
    /// What went wrong with the service as a whole; else what it says of the pin, or what went wrong with that.
    pub details: Option<String>,
}

impl PinReport {
    /// The line of this log.
    pub(super) fn of(log: &KeptLog, service: &str, pins: &LogPins, trouble: Option<&str>) -> Self {
        let (held, wanted) = (pins.held.as_ref(), pins.wanted.as_ref());
        let is_whole = held.is_some_and(|held| held.entries == log.entries);
        let state = match wanted {
            _ if is_whole => State::Pinned.as_str(),
            Some(wanted) if wanted.is_failed() => State::Failed.as_str(),
            Some(wanted) if wanted.state != State::Failed => wanted.state.as_str(),
            _ => "pending",
        };
        let root = held.or(wanted).map(|row| row.root.to_string());
        let own = wanted.or(held).and_then(|row| row.details.clone());
        Self {
            log: log.address.clone(),
            name: log.name.clone(),
            service: service.to_owned(),
            state,
            root,
            covered: held.map_or(0, |held| held.entries).min(log.entries),
            of: log.entries,
            attempts: wanted.map_or(0, |wanted| wanted.attempts),
            tried_at: wanted.or(held).map(|row| row.tried_at),
            details: trouble.map(str::to_owned).or(own),
        }
    }
}

/// One request at a service: a line of `talkbox pin ls`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PinLine {
    /// The request, as the service names it.
    pub request: String,
    /// How far it is.
    pub state: &'static str,
    /// When it was made, in the service's words.
    pub created: String,
    /// What is pinned.
    pub cid: String,
    /// The name that it was given.
    pub name: Option<String>,
    /// The log that it is of, where it is one of ours.
    pub log: Option<String>,
    /// What else the service says of it.
    pub details: Option<String>,
}

/// What one service has: a part of `talkbox pin ls`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct PinList {
    /// The service.
    pub service: String,
    /// Its requests, the latest first.
    pub pins: Vec<PinLine>,
    /// How many of them could not be read.
    pub unreadable: usize,
    /// Whether there are more.
    pub has_more: bool,
    /// Why nothing is listed, where the service could not be asked.
    pub error: Option<String>,
    /// What kind of error that is: one of the settings is for the user to mend, and no other service's answer helps.
    #[serde(skip)]
    pub error_kind: Option<ErrorKind>,
}

impl PinList {
    /// What a service answered.
    pub(super) fn of(service: &str, answer: Result<Listing, Error>) -> Self {
        let (listing, error) = match answer {
            Ok(listing) => (listing, None),
            Err(error) => (Listing::default(), Some(error)),
        };
        let line = |pin: PinStatus| PinLine {
            request: pin.id.to_string(),
            state: pin.state.as_str(),
            created: pin.created,
            cid: pin.cid.to_string(),
            name: pin.name,
            log: pin.log,
            details: pin.details,
        };
        Self {
            service: service.to_owned(),
            pins: listing.pins.into_iter().map(line).collect(),
            unreadable: listing.unreadable,
            has_more: listing.has_more,
            error_kind: error.as_ref().map(Error::kind),
            error: error.as_ref().map(in_words),
        }
    }
}

/// An error without the operation of the library, which says nothing to a person.
fn in_words(error: &Error) -> String {
    let (text, operation) = (error.to_string(), error.operation().unwrap_or_default());
    text.strip_prefix(operation).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text).to_owned()
}
