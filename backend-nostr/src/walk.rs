//! Walking down what a relay has of a mailbox, page by page, and the cursors that go on from there.
//!
//! Envelopes are dated back at random by up to two days, and may arrive long after they were made. So a cursor never
//! holds the time of an event: it holds the time, by our own clock, at which the last complete listing began, and the
//! next one asks for everything dated after that less two days and a margin. Pages go from new to old by `until`, which
//! is inclusive: the ids of the oldest second are remembered, and the walk ends when nothing new comes.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashSet},
};

use talkbox_core::{
    Cursor, Error, ErrorKind, EventId, Result, Timestamp,
    envelope::{MAX_BACKDATE, MAX_FUTURE},
    hex,
};

use crate::{
    ask::{Asker, MAX_LIMIT},
    filter::{Filter, Head, Sent},
    relay_url::RelayUrl,
    wire::Completeness,
};

/// Items of a page, where the caller does not say: what common relays give at once.
pub(crate) const PAGE: usize = 500;
/// Items of a page from a relay that sent too much: of the largest, too, these fit into an answer.
const SMALL_PAGE: usize = 64;
/// Most envelopes of one second that can be told apart. More of them come from somebody who wants to hide what lies
/// below, so the walk goes on there.
const MAX_EDGE: usize = MAX_LIMIT - PAGE;
/// A walk ends after so many envelopes: a relay that makes them up must not keep us for ever.
const MAX_WALK: u64 = 200_000;
/// How far before the beginning of the last complete listing the next one looks: the back-date, and the difference
/// between clocks that holders allow.
const OVERLAP: u64 = MAX_BACKDATE + MAX_FUTURE;

/// The first half of an id's hash: enough that nobody can make an envelope that is taken for another.
type Mark = [u8; 16];

/// Where a walk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    /// When it began, by our clock.
    began: Timestamp,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// What is known of the second `until`.
    edge: BTreeSet<Mark>,
    seen: u64,
}

/// How a page ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageEnd {
    /// How many events came that answer the question. What does not says nothing about where the page ends.
    pub(crate) answers: usize,
    /// How many were asked for.
    pub(crate) asked: usize,
    /// What the relay says of them.
    pub(crate) completeness: Completeness,
}

/// One step of a walk.
#[derive(Debug)]
pub(crate) struct Step {
    /// What is new.
    pub(crate) items: Vec<Sent>,
    /// Whether the walk is at its end.
    pub(crate) is_last: bool,
}

impl Walk {
    /// Through everything.
    pub(crate) const fn whole(now: Timestamp) -> Self {
        Self { began: now, since: None, until: None, edge: BTreeSet::new(), seen: 0 }
    }

    /// Through what may have come since a complete listing began.
    pub(crate) fn recent(now: Timestamp, last: Timestamp) -> Self {
        Self { since: Some(look_back(last)), ..Self::whole(now) }
    }

    /// Through what is dated from `since` on.
    pub(crate) fn from(now: Timestamp, since: Timestamp) -> Self {
        Self { since: Some(since), ..Self::whole(now) }
    }

    /// Takes in a page that came otherwise, such as before the live part of a subscription.
    pub(crate) fn take_in(&mut self, page: &[(Timestamp, EventId)]) {
        let Some(oldest) = page.iter().map(|(time, _)| *time).min() else { return };
        self.seen += page.len() as u64;
        self.go_down_to(oldest, page.iter().filter(|(time, _)| *time == oldest).map(|(_, id)| *id));
    }

    /// The next page of what answers `about`, of at most `want` items.
    ///
    /// # Errors
    /// As [`Asker::fetch`]; `Refused` where the relay sends more than it is asked for.
    pub(crate) async fn step(&mut self, asker: &Asker, about: &Filter, want: usize) -> Result<Step> {
        let mut want = want.clamp(1, PAGE);
        let mut question = self.question(about, want);
        let mut answer = asker.fetch(&question).await?;
        if answer.is_cut {
            // Too many bytes, perhaps.
            want = want.min(SMALL_PAGE);
            question = self.question(about, want);
            answer = asker.fetch(&question).await?;
        }
        if answer.is_cut {
            return Err(too_much().with("relay", &asker.relay.url));
        }
        let end = PageEnd {
            answers: answer.events.len(),
            asked: question.limit.unwrap_or(MAX_LIMIT),
            completeness: answer.completeness,
        };
        let (items, is_all) = self.fresh(answer.events, want);
        let fresh: Vec<_> = items.iter().map(|item| (item.head.created_at, item.head.id)).collect();
        let is_last = self.turn(&fresh, end, asker) && is_all;
        Ok(Step { items, is_last })
    }

    /// What to ask for the next page.
    pub(crate) fn question(&self, about: &Filter, want: usize) -> Filter {
        let limit = (want + self.edge.len()).min(MAX_LIMIT);
        Filter { since: self.since, until: self.until, limit: Some(limit), ..about.clone() }
    }

    /// Whether it came on an earlier page.
    pub(crate) fn is_known(&self, head: &Head) -> bool {
        Some(head.created_at) == self.until && self.edge.contains(&mark(&head.id))
    }

    /// Turns the page, of which this was new; whether it was the last one.
    pub(crate) fn turn(&mut self, fresh: &[(Timestamp, EventId)], end: PageEnd, asker: &Asker) -> bool {
        // What is less than was asked for, and less than this relay once gave, was not cut short by it.
        let largest = asker.network.pool.habits(&asker.relay.url).largest_page;
        if end.answers > largest {
            asker.network.pool.learn(&asker.relay.url, |habits| habits.largest_page = end.answers);
        }
        let is_whole = match end.completeness {
            Completeness::Finish => true,
            Completeness::More => false,
            Completeness::Unsaid => end.answers == 0 || (end.answers < largest && end.answers < end.asked),
        };
        let is_last = is_whole || (fresh.is_empty() && (end.answers == 0 || !self.go_below(end.answers)));
        self.take_in(fresh);
        let is_endless = !is_last && self.seen >= MAX_WALK;
        if is_endless {
            tracing::warn!(relay = %asker.relay.url, "the relay lists more than 200,000 events: the oldest are left out");
        }
        is_last || is_endless
    }

    /// What to remember of it.
    pub(crate) fn cursor(&self, is_over: bool, relay: &RelayUrl) -> Cursor {
        let Self { began, since, until, edge, seen } = self;
        if is_over {
            return Cursor(format!("1 since {began} {relay}"));
        }
        let time = |time: &Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
        let mut marks = String::with_capacity(1 + edge.len() * 32);
        edge.iter().for_each(|mark| hex::push(&mut marks, mark));
        Cursor(format!("1 walk {began} {} {} {seen} .{marks} {relay}", time(since), time(until)))
    }

    /// Goes on from a cursor.
    ///
    /// # Errors
    /// `NotFound` for a cursor of another version or another relay.
    pub(crate) fn resume(cursor: &Cursor, relay: &RelayUrl, now: Timestamp) -> Result<Self> {
        Self::read(&cursor.0, relay, now)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "the cursor is not of this relay").with("relay", relay))
    }

    fn read(text: &str, relay: &RelayUrl, now: Timestamp) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(9, ' ').collect();
        let number = |text: &str| text.parse().ok().map(Timestamp);
        let time = |text: &str| if text == "-" { Some(None) } else { number(text).map(Some) };
        match *parts {
            ["1", "since", began, named] if named == relay.as_str() => Some(Self::recent(now, number(began)?)),
            ["1", "walk", began, since, until, seen, marks, named] if named == relay.as_str() => {
                let marks = marks.strip_prefix('.')?.as_bytes();
                let edge = marks.chunks(32).map(|mark| std::str::from_utf8(mark).ok().and_then(hex::decode));
                Some(Self {
                    began: number(began)?,
                    since: time(since)?,
                    until: time(until)?,
                    edge: edge.collect::<Option<_>>()?,
                    seen: seen.parse().ok()?,
                })
            }
            _ => None,
        }
    }

    /// From when a watch has to look back, going on from here.
    pub(crate) const fn watch_from(&self) -> Timestamp {
        match self.since {
            // Mid-way through a listing, which goes on by itself: what came since it began.
            Some(_) | None if self.until.is_some() => look_back(self.began),
            Some(since) => since,
            None => look_back(self.began),
        }
    }

    /// What is new of a page, newest first, at most `want`; and whether that is all.
    fn fresh(&self, mut events: Vec<Sent>, want: usize) -> (Vec<Sent>, bool) {
        let mut seen = HashSet::new();
        events.retain(|event| !self.is_known(&event.head) && seen.insert(event.head.id));
        events.sort_by_key(|event| Reverse(event.head.created_at));
        let is_all = events.len() <= want;
        events.truncate(want);
        (events, is_all)
    }

    fn go_down_to(&mut self, oldest: Timestamp, edge: impl IntoIterator<Item = EventId>) {
        if self.until != Some(oldest) {
            self.until = Some(oldest);
            self.edge.clear();
        }
        self.edge.extend(edge.into_iter().map(|id| mark(&id)));
        if self.edge.len() > MAX_EDGE {
            self.go_below(self.edge.len());
        }
    }

    /// Leaves the second that it is in; `false` where there is nothing below.
    fn go_below(&mut self, received: usize) -> bool {
        // The smallest limit that relays are known to have.
        const SUSPICIOUS: usize = 100;
        if received >= SUSPICIOUS {
            tracing::warn!(received, "a relay shows so many envelopes of one second that some of them may be missing");
        }
        self.edge.clear();
        match self.until.and_then(|until| until.secs().checked_sub(1)) {
            Some(below) => {
                self.until = Some(Timestamp(below));
                true
            }
            None => false,
        }
    }
}

/// From when on to look for what has come since then, by our clock.
pub(crate) const fn look_back(then: Timestamp) -> Timestamp {
    then.minus(OVERLAP)
}

fn mark(id: &EventId) -> Mark {
    let (mark, _) = id.as_bytes().split_first_chunk().expect("an id has 32 bytes");
    *mark
}

/// That a relay sends more than it is asked for, so that nobody knows what else it has.
pub(crate) fn too_much() -> Error {
    Error::new(ErrorKind::Refused, "the relay sends more than it is asked for")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relay() -> RelayUrl {
        RelayUrl::parse("wss://relay.example").expect("a relay")
    }

    #[test]
    fn a_cursor_holds_our_time_and_none_of_an_event() {
        let mut walk = Walk::whole(Timestamp(1_790_000_000));
        walk.take_in(&[(Timestamp(1_789_999_999), EventId::from_bytes([1; 32]))]);
        let later = Walk::resume(&walk.cursor(true, &relay()), &relay(), Timestamp(1_790_000_500)).expect("its own");
        assert_eq!(later, Walk::recent(Timestamp(1_790_000_500), Timestamp(1_790_000_000)));
        assert_eq!(later.since, Some(Timestamp(1_790_000_000 - 172_800 - 900)));
        assert_eq!(later.watch_from(), Timestamp(1_790_000_000 - 172_800 - 900));
        assert_eq!(walk.watch_from(), Timestamp(1_790_000_000 - 172_800 - 900));
    }

    #[test]
    fn a_cursor_of_another_relay_or_version_is_not_found() {
        let other = RelayUrl::parse("wss://other.example").expect("a relay");
        let cursor = Walk::whole(Timestamp(5)).cursor(true, &other);
        let ours = Walk::whole(Timestamp(5)).cursor(false, &relay()).0;
        for bad in [cursor, Cursor(ours.replacen('1', "2", 1)), Cursor(String::new()), Cursor(ours.replace('.', ".00"))]
        {
            assert_eq!(Walk::resume(&bad, &relay(), Timestamp(9)).expect_err("foreign").kind(), ErrorKind::NotFound);
        }
    }

    #[test]
    fn too_many_of_one_second_are_passed_by() {
        let mut walk = Walk::whole(Timestamp(100));
        let ids = |from: u32| {
            (from..).map(|n| {
                let mut bytes = [0; 32];
                bytes[..4].copy_from_slice(&n.to_be_bytes());
                EventId::from_bytes(bytes)
            })
        };
        walk.go_down_to(Timestamp(50), ids(0).take(MAX_EDGE));
        assert_eq!(walk.until, Some(Timestamp(50)));
        walk.go_down_to(Timestamp(50), ids(MAX_EDGE as u32).take(1));
        assert_eq!((walk.until, walk.edge.len()), (Some(Timestamp(49)), 0));
        walk.until = Some(Timestamp(0));
        assert!(!walk.go_below(1));
    }

    proptest! {
        #[test]
        fn a_walk_survives_its_cursor(
            began in 0u64..u64::MAX, since in proptest::option::of(0u64..u64::MAX),
            until in proptest::option::of(0u64..u64::MAX), edge in proptest::collection::btree_set(any::<Mark>(), 0..5), seen: u64,
        ) {
            let (since, until) = (since.map(Timestamp), until.map(Timestamp));
            let walk = Walk { began: Timestamp(began), since, until, edge, seen };
            let again = Walk::resume(&walk.cursor(false, &relay()), &relay(), Timestamp(0)).expect("its own");
            prop_assert_eq!(again, walk);
        }

        #[test]
        fn reading_any_cursor_never_panics(text in any::<String>()) {
            prop_assert!(Walk::resume(&Cursor(text), &relay(), Timestamp(0)).is_err());
        }
    }
}
