//! Finding records: all relays at once, each record as it comes, each relay to its end and within bounds. Nothing is
//! believed here; core checks and chooses.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use talkbox_core::{
    Error, ErrorKind, EventId, MailboxId, RawRecord, ResolveEvent, Result, Timestamp, address::Target,
    envelope::MAX_ENVELOPE_BYTES, event::kind, record::MAX_RECORD_BYTES,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    ask::Asker,
    filter::{Filter, Sent},
    network::{Network, Relay, no_relays},
    routes::{Budget, Delivery},
    subscription::{Ended, Subscription},
    verdict::Refused,
    walk::{PageEnd, Walk, too_much},
    wire::Completeness,
};

/// Records of one question. Anybody can publish under a code, so there may be many; usually there is one.
const PAGE: usize = 100;
/// Records that are taken from one relay. Core tries each key at 0.2 s: it could not use more.
const MAX_RECORDS: usize = 2_000;
/// How long one relay may take for all of its pages.
const WHOLE: Duration = Duration::from_secs(30);

/// Every record of a target that these relays have.
pub(crate) fn resolve(
    network: &Arc<Network>,
    relays: Vec<Relay>,
    target: &Target,
    mut end: watch::Receiver<bool>,
) -> BoxStream<'static, Result<ResolveEvent>> {
    if relays.is_empty() {
        return stream::iter([Err(no_relays().op("resolve"))]).boxed();
    }
    let questions = match target {
        Target::Code(code) => {
            vec![Filter { kind: kind::RECORD, code: Some(code.symbols().to_owned()), ..Filter::default() }]
        }
        // A key of another Nostr client has no record, but may say where it reads its direct messages (NIP-17).
        Target::Mailbox(mailbox) => vec![by(*mailbox, kind::RECORD), by(*mailbox, kind::INBOX_RELAYS)],
    };
    let until = Instant::now() + WHOLE;
    let asked = relays.iter().flat_map(|relay| questions.iter().map(move |about| (relay.clone(), about.clone())));
    let sources = asked.map(|(relay, about)| {
        let asker = Asker { network: Arc::clone(network), relay, auth: None };
        let walk = Walk::whole(network.clock.now());
        let source = Source { asker, about, walk, until, taken: 0, page: None, ready: VecDeque::new(), is_over: false };
        stream::unfold(source, Source::next).boxed()
    });
    let ended = async move {
        // An error means that the transport was dropped, which ends the stream as well.
        let _ = end.wait_for(|closed| *closed).await;
    };
    stream::select_all(sources).take_until(Box::pin(ended)).boxed()
}

fn by(mailbox: MailboxId, kind: u16) -> Filter {
    Filter { kind, author: Some(mailbox.into()), ..Filter::default() }
}

/// One question to one relay.
struct Source {
    asker: Asker,
    about: Filter,
    walk: Walk,
    until: Instant,
    taken: usize,
    page: Option<Page>,
    ready: VecDeque<Result<ResolveEvent>>,
    is_over: bool,
}

/// A page that is coming in.
struct Page {
    subscription: Subscription,
    question: Filter,
    answers: usize,
    fresh: Vec<(Timestamp, EventId)>,
}

impl Source {
    async fn next(mut self) -> Option<(Result<ResolveEvent>, Self)> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Some((record, self));
            }
            if self.is_over {
                return None;
            }
            if let Err(error) = self.advance().await {
                self.is_over = true;
                let error =
                    if error.context("relay").is_some() { error } else { error.with("relay", &self.asker.relay.url) };
                self.ready.push_back(Err(error.op("resolve")));
            }
        }
    }

    async fn advance(&mut self) -> Result<()> {
        let slow = || Error::new(ErrorKind::Timeout, "the relay does not answer");
        let until = self.until.min(Instant::now() + self.asker.network.timeout);
        let Some(mut page) = self.page.take() else {
            let question = self.walk.question(&self.about, PAGE);
            let events = question.limit.unwrap_or(PAGE);
            let budget = Budget { waiting: events + 8, events, bytes: events * 2 * MAX_ENVELOPE_BYTES, notices: false };
            let (_, subscription) = timeout_at(until, self.asker.subscribe(std::slice::from_ref(&question), budget))
                .await
                .map_err(|_| slow())??;
            self.page = Some(Page { subscription, question, answers: 0, fresh: Vec::new() });
            return Ok(());
        };
        match timeout_at(until, page.subscription.next()).await.map_err(|_| slow())? {
            Ok(Delivery::Event(event)) => self.take(&event, &mut page),
            Ok(Delivery::Eose(completeness)) => {
                self.turn(&page, completeness);
                return Ok(());
            }
            Err(Ended::Overrun) => return Err(too_much()),
            Ok(Delivery::Closed(words)) => return Err(Refused::of(&words).into_error()),
            Ok(Delivery::Neg(_) | Delivery::NegErr(_) | Delivery::Notice(_)) => {}
            Err(Ended::Lost(lost)) => return Err(lost.to_error()),
        }
        self.page = Some(page);
        Ok(())
    }

    fn take(&mut self, event: &Sent, page: &mut Page) {
        let mark = (event.head.created_at, event.head.id);
        if !page.question.matches(&event.head) {
            return;
        }
        page.answers += 1;
        if self.walk.is_known(&event.head) || page.fresh.contains(&mark) {
            return;
        }
        page.fresh.push(mark);
        self.taken += 1;
        if event.json.len() > MAX_RECORD_BYTES {
            return;
        }
        let json = event.json.as_ref().to_owned();
        let source = self.asker.relay.holder.clone();
        self.ready.push_back(Ok(ResolveEvent::Record(RawRecord { json, source })));
    }

    fn turn(&mut self, page: &Page, completeness: Completeness) {
        let asked = page.question.limit.unwrap_or(PAGE);
        let end = PageEnd { answers: page.answers, asked, completeness };
        self.is_over = self.walk.turn(&page.fresh, end, &self.asker) || self.taken >= MAX_RECORDS;
        if self.is_over {
            self.ready.push_back(Ok(ResolveEvent::End { source: self.asker.relay.holder.clone() }));
        }
    }
}
