//! The pinner: sees to it that every log that is kept is pinned at every service, and says what is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use talkbox_core::{Result, Timestamp};
use tokio::sync::{Mutex, Notify, watch};

use super::{
    books::Books,
    ledger::{self, LogPins},
    pace::Pace,
    report::{PinList, PinReport, Standing},
    service::PinService,
    shelf::{Peers, Shelf, on_tables},
    visit::{Context, Visitor},
};

/// The pinner. It does nothing by itself: [`run`](Self::run) does, or whoever calls [`round`](Self::round).
#[derive(Debug)]
pub(crate) struct Keeper {
    places: Vec<Place>,
    context: Context,
    /// That some log has grown.
    grown: Notify,
}

/// One service, and who goes there.
#[derive(Debug)]
struct Place {
    service: Arc<dyn PinService>,
    visitor: Mutex<Visitor>,
    /// What is wrong with it, readable while somebody is there.
    trouble: std::sync::Mutex<Option<String>>,
}

/// What a pinner works with.
#[derive(Debug)]
pub(crate) struct KeeperParts {
    /// The services, in the order of the settings.
    pub(crate) services: Vec<Arc<dyn PinService>>,
    /// The store.
    pub(crate) shelf: Arc<dyn Shelf>,
    /// The network.
    pub(crate) peers: Arc<dyn Peers>,
    /// The time.
    pub(crate) clock: Arc<dyn talkbox_core::Clock>,
    /// How long everything waits.
    pub(crate) pace: Pace,
    /// Whether services may name addresses that are not global, and are told such: for a network of one's own.
    pub(crate) allow_private: bool,
}

impl Keeper {
    /// Makes the tables, and asks nobody yet.
    ///
    /// # Errors
    /// `Storage`.
    pub(crate) async fn open(parts: KeeperParts) -> Result<Self> {
        let KeeperParts { services, shelf, peers, clock, pace, allow_private } = parts;
        on_tables(&shelf, ledger::prepare).await?;
        let context = Context { shelf, peers, clock, pace, allow_private };
        let nodes = Arc::default();
        let place = |service: Arc<dyn PinService>| {
            let books = Books::new(service.name(), Arc::clone(&context.shelf), Arc::clone(&nodes));
            let visitor = Mutex::new(Visitor::new(Arc::clone(&service), books, context.clone()));
            Place { service, visitor, trouble: std::sync::Mutex::default() }
        };
        Ok(Self { places: services.into_iter().map(place).collect(), context, grown: Notify::new() })
    }

    /// Says that some log has grown. It costs nothing, and may be said as often as one likes.
    pub(crate) fn grown(&self) {
        self.grown.notify_one();
    }

    /// Goes on until it is told to stop. What is under way then is on disk, and goes on with the next run.
    pub(crate) async fn run(&self, mut stop: watch::Receiver<bool>) {
        if self.places.is_empty() {
            return;
        }
        let (shortest, longest) = self.context.pace.round;
        loop {
            let round = async {
                let next = self.round().await;
                let pause = Duration::from_secs(next.minus(self.context.clock.now().secs()).secs());
                // Growth that came meanwhile has left its word; a burst of it is one round.
                tokio::time::sleep(shortest).await;
                let rest = pause.clamp(shortest, longest).saturating_sub(shortest);
                tokio::select! {
                    () = self.grown.notified() => {}
                    () = tokio::time::sleep(rest) => {}
                }
            };
            tokio::select! {
                biased;
                // Also when nobody is left to say so.
                _ = stop.wait_for(|stop| *stop) => return,
                () = round => {}
            }
        }
    }

    /// Does what is due, at all services at once, and says when something is due next.
    pub(crate) async fn round(&self) -> Timestamp {
        let retry = self.context.clock.now().plus(self.context.pace.retry.0.as_secs());
        let at_one = async |place: &Place| {
            let mut visitor = place.visitor.lock().await;
            let next = visitor.round().await.unwrap_or_else(|error| {
                tracing::warn!(service = place.service.name(), %error, "pins cannot be looked after");
                retry
            });
            *place.lock_trouble() = visitor.trouble().map(str::to_owned);
            next
        };
        join_all(self.places.iter().map(at_one)).await.into_iter().min().unwrap_or(Timestamp(u64::MAX))
    }

    /// The services, in the order of the settings.
    pub(crate) fn services(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| place.service.name())
    }

    /// How mail stands, each by its log and its number in the store: at every service, in the order of the settings.
    ///
    /// # Errors
    /// `Storage`.
    pub(crate) async fn standing(&self, mail: Vec<(String, i64)>) -> Result<Vec<Vec<Standing>>> {
        let names = self.names();
        on_tables(&self.context.shelf, move |db| {
            // Much mail is in few logs.
            let mut known: BTreeMap<&str, Vec<LogPins>> = BTreeMap::new();
            for (log, _) in &mail {
                if !known.contains_key(log.as_str()) {
                    let pins = names.iter().map(|name| ledger::of_log(db, name, log)).collect::<Result<_, _>>()?;
                    known.insert(log, pins);
                }
            }
            let at_all = |(log, seq): &(String, i64)| {
                known.get(log.as_str()).into_iter().flatten().map(|pins| Standing::of(pins, *seq)).collect()
            };
            Ok(mail.iter().map(at_all).collect())
        })
        .await
    }

    /// How every log stands at every service: `talkbox pin status`.
    ///
    /// # Errors
    /// `Storage`.
    pub(crate) async fn status(&self) -> Result<Vec<PinReport>> {
        let logs = self.context.shelf.logs().await?;
        let names = self.names();
        let troubles: Vec<_> = self.places.iter().map(|place| place.lock_trouble().clone()).collect();
        on_tables(&self.context.shelf, move |db| {
            let mut reports = Vec::new();
            for log in &logs {
                for (name, trouble) in names.iter().zip(&troubles) {
                    let pins = ledger::of_log(db, name, &log.address)?;
                    reports.push(PinReport::of(log, name, &pins, trouble.as_deref()));
                }
            }
            Ok(reports)
        })
        .await
    }

    /// What every service has, by its own words: `talkbox pin ls`.
    pub(crate) async fn list(&self) -> Vec<PinList> {
        let at_one = async |place: &Place| PinList::of(place.service.name(), place.service.list(&[]).await);
        join_all(self.places.iter().map(at_one)).await
    }

    fn names(&self) -> Vec<String> {
        self.services().map(str::to_owned).collect()
    }
}

impl Place {
    fn lock_trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
