//! Our side: nodes and clients by the public API, and mail for a mailbox that nobody has used before.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::BoxStream};
use serde_json::{Value, json};
use talkbox_backend_ipfs::{IpfsNode, IpfsNodeConfig, backend};
use talkbox_core::{
    AuditOptions, BackendConfig, Clock as _, Draft, Envelope, HoldingState, ListOptions, Locator, Mailbox, MailboxId,
    MailboxRecord, OpenContext, PublishOptions, PutOptions, Receipt, RecordFields, ResolveEvent, ResolveOptions,
    Result, SealOptions, SecretKey, Shortcode, SystemClock, Target, Timestamp, Transport, WatchEvent, WatchOptions,
    seal,
};
use tokio::time::{sleep, timeout};

use crate::peer::{PATIENCE, Peer, text};

/// Where a node may listen.
pub(crate) const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub(crate) const WEBSOCKET: &str = "/ip4/127.0.0.1/tcp/0/ws";

/// How long between two looks at what does not say by itself that it has changed.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Ids of envelopes, in digits.
pub(crate) type Ids = BTreeSet<String>;

/// Somebody who gets mail.
#[derive(Clone)]
pub(crate) struct Owner {
    pub(crate) id: MailboxId,
    key: SecretKey,
    /// When all of it is written: a test that goes on into the next month stays in one log.
    now: Timestamp,
}

impl Owner {
    pub(crate) fn new() -> Self {
        let key = SecretKey::generate().expect("randomness");
        Self { id: key.id(), key, now: SystemClock.now() }
    }

    /// The name of the log that their mail is in.
    pub(crate) fn log(&self) -> String {
        format!("talkbox/1/{}/{}", self.id.to_hex(), month(self.now))
    }

    /// So many letters.
    pub(crate) fn mail(&self, count: usize) -> Vec<Envelope> {
        let sender = SecretKey::generate().expect("randomness");
        let mut options = SealOptions::default();
        options.backdate = false;
        let one = |at| seal(&Draft::text(format!("letter {at}")), &sender, self.id, self.now, &options);
        (0..count).map(|at| one(at).expect("seals").envelope).collect()
    }

    /// What tells others where the mailbox is.
    pub(crate) fn record(&self, place: &str) -> MailboxRecord {
        let fields = RecordFields::new(vec![format!("ipfs:{place}").parse().expect("a locator")]);
        MailboxRecord::sign(&self.key, Shortcode::of(&self.id), fields, self.now).expect("signs")
    }

    /// One letter.
    pub(crate) fn letter(&self) -> Envelope {
        self.mail(1).swap_remove(0)
    }
}

/// `yyyy-mm`, in UTC.
fn month(time: Timestamp) -> String {
    // The civil calendar, in eras of 400 years that begin in March: https://howardhinnant.github.io/date_algorithms.html
    let days = time.secs() / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = ((5 * day_of_year + 2) / 153 + 2) % 12 + 1;
    format!("{:04}-{month:02}", year_of_era + era * 400 + u64::from(month <= 2))
}

/// The ids of envelopes.
pub(crate) fn ids(mail: &[Envelope]) -> Ids {
    mail.iter().map(|envelope| envelope.id().to_hex()).collect()
}

/// A node that keeps the mailbox, with the peers that it stays connected to; and where it listens.
pub(crate) async fn node(owner: &Owner, listen: &str, peers: &[&str]) -> (IpfsNode, String) {
    node_with(owner, listen, peers, |_| {}).await
}

/// The same with other settings.
pub(crate) async fn node_with(
    owner: &Owner,
    listen: &str,
    peers: &[&str],
    set: impl FnOnce(&mut IpfsNodeConfig),
) -> (IpfsNode, String) {
    let mut config = IpfsNodeConfig::loopback();
    config.listen = vec![listen.to_owned()];
    config.peers = peers.iter().copied().map(str::to_owned).collect();
    config.keep = Some(vec![owner.id]);
    set(&mut config);
    let node = IpfsNode::start(config).await.expect("the node starts");
    let address = node.addresses().swap_remove(0);
    (node, address)
}

/// What the user has: a mailbox on one holder.
pub(crate) struct Client {
    mailbox: Arc<dyn Mailbox>,
    transport: Arc<dyn Transport>,
    holder: Option<Locator>,
    owner: MailboxId,
}

impl Client {
    pub(crate) async fn of(owner: &Owner, holder: &str) -> Self {
        Self::with(owner, json!({ "peers": [holder], "timeout_ms": 60_000, "dht": "off" })).await
    }

    pub(crate) async fn with(owner: &Owner, settings: Value) -> Self {
        let Value::Object(table) = settings else { panic!("a table") };
        let mut context = OpenContext::new("interop");
        context.allow_private = true;
        let backend = (backend().open)(BackendConfig::new(table), context).await.expect("it opens");
        let mailbox = backend.mailbox.expect("it has a mailbox");
        let transport = backend.transport.expect("it has a transport");
        Self { holder: mailbox.holders().into_iter().next(), mailbox, transport, owner: owner.id }
    }

    /// Publishes a record.
    pub(crate) async fn publish(&self, record: &MailboxRecord) {
        self.transport.publish(record, PublishOptions::default()).await.expect("somebody takes it");
    }

    /// The records that are found for a code.
    pub(crate) async fn resolve(&self, code: Shortcode) -> Vec<String> {
        let found = self.transport.resolve(&Target::Code(code), ResolveOptions::default());
        let found = found.filter_map(|event| std::future::ready(event.ok().and_then(ResolveEvent::into_record)));
        timeout(PATIENCE, found.map(|record| record.json).collect()).await.expect("it ends")
    }

    /// What a holder says that it holds of these.
    pub(crate) async fn audit(&self, holder: &Locator, mail: &[Envelope]) -> Vec<HoldingState> {
        let ids: Vec<_> = mail.iter().map(Envelope::id).collect();
        let holdings = self.mailbox.audit(self.owner, holder, &ids, AuditOptions::default()).await;
        holdings.expect("it says").iter().map(|holding| holding.state).collect()
    }

    /// Ends it.
    pub(crate) async fn close(self) {
        self.mailbox.close().await;
        self.transport.close().await;
    }

    /// Puts, and one receipt for each.
    pub(crate) async fn put(&self, mail: &[Envelope]) -> Vec<Receipt> {
        let receipts = self.mailbox.put(mail, PutOptions::default()).await;
        receipts.into_iter().collect::<Result<_>>().expect("somebody takes it")
    }

    /// Puts what is stored then.
    pub(crate) async fn store(&self, mail: &[Envelope]) {
        for receipt in self.put(mail).await {
            assert_eq!(receipt.acks.len(), 1, "{receipt:?}");
        }
    }

    /// Everything that the holder has.
    pub(crate) async fn listed(&self) -> Ids {
        let holder = self.holder.as_ref().expect("it has a holder");
        let (mut ids, mut options) = (Ids::new(), ListOptions::default().limit(500));
        loop {
            let page = self.mailbox.list(self.owner, holder, options.clone()).await.expect("it lists");
            for raw in &page.items {
                Envelope::verify(raw).expect("it is genuine");
                ids.insert(raw.id().to_hex());
            }
            if !page.more {
                return ids;
            }
            options = options.after(page.next);
        }
    }

    /// Waits until the holder has these.
    pub(crate) async fn until_listed(&self, wanted: &Ids) {
        let mut listed = Ids::new();
        let waited = timeout(PATIENCE, async {
            while !listed.is_superset(wanted) {
                listed = self.listed().await;
                sleep(LOOK_AGAIN).await;
            }
        });
        if waited.await.is_err() {
            panic!("{} of {} came", wanted.intersection(&listed).count(), wanted.len());
        }
    }

    /// What comes from now on.
    pub(crate) async fn watch(&self) -> Watch {
        let events = self.mailbox.watch(self.owner, WatchOptions::default()).expect("it watches");
        let mut watch = Watch(events);
        watch.find("that it is live", |event| matches!(event, WatchEvent::Live { .. })).await;
        watch
    }
}

/// A client that watches.
pub(crate) struct Watch(BoxStream<'static, Result<WatchEvent>>);

impl Watch {
    /// Waits for a letter.
    pub(crate) async fn until(&mut self, wanted: &Envelope) {
        let is_it = |event: &WatchEvent| matches!(event, WatchEvent::Envelope { raw, .. } if raw.id() == wanted.id());
        self.find("the letter", is_it).await;
    }

    async fn find(&mut self, what: &str, is_wanted: impl Fn(&WatchEvent) -> bool) {
        let mut seen = Vec::new();
        let found = timeout(PATIENCE, async {
            while let Some(event) = self.0.next().await {
                if event.as_ref().is_ok_and(&is_wanted) {
                    return;
                }
                seen.push(event);
            }
            panic!("the watch ended");
        });
        if found.await.is_err() {
            panic!("the watch never said {what}; it said {:?}", seen.iter().map(brief).collect::<Vec<_>>());
        }
    }
}

fn brief(event: &Result<WatchEvent>) -> String {
    let cut = |value: &dyn Debug| format!("{value:?}").chars().take(200).collect();
    match event {
        Ok(event) => cut(event),
        Err(error) => cut(error),
    }
}

impl Peer {
    /// Appends letters as JavaScript programs would: the event as a map.
    pub(crate) async fn add_mail(&mut self, mail: &[Envelope]) -> Vec<String> {
        let given: Vec<_> = mail.iter().map(|envelope| self.give(&format!("addjson {}", envelope.json()))).collect();
        let mut hashes = Vec::new();
        for given in given {
            hashes.push(text(&self.answer(given).await["hash"]));
        }
        hashes
    }

    /// The letters in the current log.
    pub(crate) async fn mail(&mut self) -> Ids {
        let entries = self.all().await;
        entries.iter().filter_map(|entry| entry["payload"]["value"]["id"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until the current log has these letters.
    pub(crate) async fn until_mail(&mut self, wanted: &Ids) {
        let mut mail = Ids::new();
        let waited = timeout(PATIENCE, async {
            while !mail.is_superset(wanted) {
                mail = self.mail().await;
                sleep(LOOK_AGAIN).await;
            }
        });
        if waited.await.is_err() {
            panic!("{} of {} came", wanted.intersection(&mail).count(), wanted.len());
        }
    }
}
