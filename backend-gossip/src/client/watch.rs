//! Watching: one feed of each node that stays open, opened again when it is lost, from the place where it was.
//!
//! There is no task behind it: whoever reads the stream drives it, and dropping it ends everything. A reader that is
//! slower than a node loses the feed, not an envelope.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use talkbox_core::{Error, ErrorKind, MailboxId, Result, WatchEvent, WatchOptions};
use talkbox_net::BackOff;
use tokio::sync;

use super::{
    ask::Asker,
    cursor::Place,
    feed::{Feed, Told},
    listing::envelope,
    network::{Network, RemoteNode, no_nodes},
};

/// Envelopes in a row that are none of this mailbox, after which a node is lost: an honest one sends none.
const MAX_NONSENSE: u32 = 100;

/// The stream of all nodes.
pub(super) fn watch(
    network: &Arc<Network>,
    owner: MailboxId,
    options: &WatchOptions,
    end: &sync::watch::Receiver<bool>,
) -> BoxStream<'static, Result<WatchEvent>> {
    let one = |node: &RemoteNode| {
        let after = options.after.iter().find(|(holder, _)| {
            // The cursor may name the node in another spelling.
            network.node(holder).is_ok_and(|named| named.url == node.url)
        });
        let place = after.and_then(|(_, cursor)| Place::parse(&cursor.0));
        let mut ready = VecDeque::new();
        if after.is_some() && place.is_none() {
            // Not a cursor of a node: say that something may be missing, and let the caller list from the start.
            ready.push_back(Ok(WatchEvent::Lagged { holder: node.holder.clone() }));
        }
        let asker = Asker { network: Arc::clone(network), node: node.clone(), auth: options.auth.clone() };
        let back_off = BackOff::new(options.retry_after);
        let watch = Watch { asker, owner, after: place, back_off, was_open: false, nonsense: 0, ready, open: None };
        let mut end = end.clone();
        let ended = async move {
            // An error means that the mailbox was dropped, which ends the stream as well.
            let _ = end.wait_for(|closed| *closed).await;
        };
        stream::unfold(watch, Watch::next).take_until(Box::pin(ended)).boxed()
    };
    let nodes: Vec<_> = network.nodes().iter().map(one).collect();
    if nodes.is_empty() {
        return stream::iter([Err(no_nodes().op("watch"))]).boxed();
    }
    stream::select_all(nodes).boxed()
}

/// One node.
struct Watch {
    asker: Asker,
    owner: MailboxId,
    /// Where the feed goes on when it is opened again.
    after: Option<Place>,
    back_off: BackOff,
    /// Whether there was a feed before this one, so that something may be missing between them.
    was_open: bool,
    nonsense: u32,
    /// What is to be said next.
    ready: VecDeque<Result<WatchEvent>>,
    open: Option<Feed>,
}

impl Watch {
    async fn next(mut self) -> Option<(Result<WatchEvent>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((event, self));
            }
            if let Err(error) = self.advance().await {
                self.open = None;
                self.back_off.fail_with(&error);
                self.ready.push_back(Err(self.asker.named(error).op("watch")));
            }
        }
    }

    /// Opens the feed, or takes what comes next on it.
    async fn advance(&mut self) -> Result<()> {
        let Some(feed) = &mut self.open else { return self.subscribe().await };
        match feed.next().await? {
            Told::Envelope { json, at } => return self.take(&json, at),
            Told::Live { at } => {
                self.after = at.or(self.after);
                self.back_off.reset();
                self.ready.push_back(Ok(WatchEvent::Live { holder: self.asker.node.holder.clone() }));
            }
            Told::Hint { .. } | Told::Other => {}
        }
        Ok(())
    }

    async fn subscribe(&mut self) -> Result<()> {
        let is_again = self.was_open || self.back_off.is_on();
        self.back_off.wait().await;
        match self.asker.feed(self.owner, self.after).await {
            Ok(feed) => self.open = Some(feed),
            // Another store, or an older state of it: from now on, and the caller is told to look at the rest.
            Err(error) if error.kind() == ErrorKind::NotFound && self.after.is_some() => {
                self.after = None;
                self.was_open = true;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.was_open = true;
        if is_again {
            self.ready.push_back(Ok(WatchEvent::Lagged { holder: self.asker.node.holder.clone() }));
        }
        Ok(())
    }

    fn take(&mut self, json: &str, at: Option<Place>) -> Result<()> {
        self.after = at.or(self.after);
        let now = self.asker.network.clock.now();
        match envelope(json, self.owner, now) {
            Some(raw) => {
                self.nonsense = 0;
                let holder = self.asker.node.holder.clone();
                let cursor = at.map(Place::cursor);
                self.ready.push_back(Ok(WatchEvent::Envelope { holder, raw, cursor }));
            }
            None => {
                self.nonsense += 1;
                if self.nonsense >= MAX_NONSENSE {
                    self.nonsense = 0;
                    return Err(Error::new(ErrorKind::Unexpected, "the node tells of nothing but what is none"));
                }
            }
        }
        Ok(())
    }
}
