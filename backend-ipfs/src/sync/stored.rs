//! The store of a node, as the protocols want it.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};
use talkbox_core::{Clock, EnvelopeId, MailboxRecord, Result, Shortcode, Timestamp, async_trait, sqlite::Sql};

use super::{
    have::Holdings,
    record::{Records, expires_at},
};
use crate::store::Store;

/// Most records that are kept: 256 MiB of the largest, 16 of usual ones.
const MAX_RECORDS: u64 = 16_384;
/// The table of records. Those that go first are the oldest: owners renew theirs every week.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS sync_records (
        code TEXT PRIMARY KEY,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        json TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS sync_records_by_age ON sync_records (created_at);
    CREATE INDEX IF NOT EXISTS sync_records_by_end ON sync_records (expires_at);";

#[async_trait]
impl Holdings for Store {
    async fn held(&self, ids: Vec<EnvelopeId>) -> Result<Vec<Option<Timestamp>>> {
        self.held(ids).await
    }
}

/// The records that a node keeps, in its store.
#[derive(Clone, Debug)]
pub(crate) struct StoredRecords {
    store: Store,
    clock: Arc<dyn Clock>,
    most: u64,
}

impl StoredRecords {
    /// Makes the table where it is not there.
    ///
    /// # Errors
    /// `Storage`.
    pub(crate) async fn open(store: Store, clock: Arc<dyn Clock>) -> Result<Self> {
        store.with(|db| Ok(db.execute_batch(TABLE)?)).await?;
        Ok(Self { store, clock, most: MAX_RECORDS })
    }

    /// The codes of the newest records.
    ///
    /// # Errors
    /// `Storage`.
    pub(crate) async fn codes(&self, most: usize) -> Result<Vec<Shortcode>> {
        let (now, most) = (secs(self.clock.now()), i64::try_from(most).unwrap_or(i64::MAX));
        let codes = self.store.with(move |db| {
            let mut select = db.prepare_cached(
                "SELECT code FROM sync_records WHERE expires_at > ?1 ORDER BY created_at DESC LIMIT ?2",
            )?;
            Ok(select.query_map((now, most), |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?)
        });
        Ok(codes.await?.iter().filter_map(|code| Shortcode::from_symbols(code)).collect())
    }
}

#[async_trait]
impl Records for StoredRecords {
    async fn get(&self, code: Shortcode) -> Result<Option<Arc<str>>> {
        let now = secs(self.clock.now());
        let find = move |db: &Connection| {
            let mut select = db.prepare_cached("SELECT json FROM sync_records WHERE code = ?1 AND expires_at > ?2")?;
            Ok(select.query_row((code.symbols(), now), |row| row.get(0)).optional()?)
        };
        self.store.with(find).await
    }

    async fn put(&self, record: MailboxRecord) -> Result<()> {
        let (now, most) = (secs(self.clock.now()), self.most);
        self.store.with(move |db| put(db, &record, now, most)).await
    }
}

fn put(db: &Connection, record: &MailboxRecord, now: i64, most: u64) -> Sql<()> {
    db.prepare_cached("DELETE FROM sync_records WHERE expires_at <= ?1")?.execute([now])?;
    let sql = "INSERT OR REPLACE INTO sync_records (code, created_at, expires_at, json) VALUES (?1, ?2, ?3, ?4)";
    let (created_at, expires_at) = (secs(record.created_at()), secs(expires_at(record)));
    let row = (record.code().symbols().to_owned(), created_at, expires_at, record.event().to_json());
    db.prepare_cached(sql)?.execute(row)?;
    let count: i64 = db.prepare_cached("SELECT count(*) FROM sync_records")?.query_row([], |row| row.get(0))?;
    let over = count.saturating_sub(i64::try_from(most).unwrap_or(i64::MAX)).max(0);
    let sql = "DELETE FROM sync_records WHERE code IN (SELECT code FROM sync_records ORDER BY created_at LIMIT ?1)";
    db.prepare_cached(sql)?.execute([over])?;
    Ok(())
}

fn secs(time: Timestamp) -> i64 {
    i64::try_from(time.secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use talkbox_core::{
        Draft, Envelope, MailboxId, ManualClock, RecordFields, SealOptions, SecretKey, anti_entropy::ReconciledSet,
        seal,
    };
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        orbitdb::{Block, Cid, LogAddress, MonthLog, Value, Writer},
        store::{self, Received, Refused, StoreLimits},
        sync::{Digest, Exchange, Limits, MAX_HEADS, Push, Replica, Standing, Taken, exchange, serve},
    };

    const NOW: Timestamp = Timestamp(1_793_000_000);

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(NOW))
    }

    /// What a session brought into a log.
    #[derive(Clone, Debug)]
    struct News {
        /// What became of it.
        received: Received,
    }

    /// An open log of the store. What sessions bring into it is told to whoever has the other end of `news`, which has to
    /// listen: a session goes no faster than that.
    #[derive(Clone, Debug)]
    struct StoredLog {
        store: Store,
        address: LogAddress,
        news: mpsc::Sender<News>,
    }

    impl StoredLog {
        /// A log that is open.
        const fn new(store: Store, address: LogAddress, news: mpsc::Sender<News>) -> Self {
            Self { store, address, news }
        }
    }

    #[async_trait]
    impl Replica for StoredLog {
        fn manifest(&self) -> Cid {
            self.address.manifest()
        }

        async fn standing(&self) -> Result<Standing> {
            let heads = self.store.heads(&self.address, MAX_HEADS).await?;
            let entries = self.store.entries(&self.address).await?;
            Ok(Standing { heads: heads.into_iter().map(|head| (head.cid, head.time)).collect(), entries })
        }

        async fn set(&self) -> Result<Arc<dyn ReconciledSet + Send + Sync>> {
            let set: Arc<dyn ReconciledSet + Send + Sync> = self.store.set(&self.address).await?;
            Ok(set)
        }

        async fn bundle(&self, digests: &[Digest]) -> Result<Vec<Block>> {
            self.store.bundle(&self.address, digests.to_vec()).await
        }

        async fn receive(&self, blocks: Vec<Block>) -> Result<Taken> {
            let received = self.store.receive(&self.address, blocks).await?;
            let count = |wanted: fn(&store::Taken) -> bool| {
                received.entries.iter().filter(|taken| wanted(taken)).count() as u64
            };
            // What is refused for want of room, or for its date, is no fault of whoever sent it.
            let junk = count(|taken| taken.refused.as_ref().is_some_and(Refused::is_final));
            let taken = Taken { new: count(|taken| taken.is_new), junk };
            if taken.new > 0 || !received.shown.is_empty() || !received.missing.is_empty() {
                // Nobody listens where the node is closing.
                let _ = self.news.send(News { received }).await;
            }
            Ok(taken)
        }
    }

    /// A node's log, and the news of it.
    struct Node {
        store: Store,
        log: MonthLog,
        replica: StoredLog,
        news: mpsc::Receiver<News>,
    }

    impl Node {
        async fn of(mailbox: MailboxId) -> Self {
            let store = Store::open(None, clock(), StoreLimits::default()).await.expect("opens");
            let log = MonthLog::new(mailbox, crate::orbitdb::Month::of(NOW));
            store.open_log(log.clone()).await.expect("opens");
            let (sender, news) = mpsc::channel(1_024);
            let replica = StoredLog::new(store.clone(), log.definition.address.clone(), sender);
            Self { store, log, replica, news }
        }

        /// Appends values in chains of some length, each by a writer of its own.
        async fn write(&self, name: &str, chains: usize, each: usize) {
            for chain in 0..chains {
                let writer = Arc::new(Writer::generate().expect("a key"));
                let values = (0..each).map(|number| Value::String(format!("{name} {chain} {number}"))).collect();
                let written = self.store.append_values(&self.log.definition.address, values, writer).await;
                assert_eq!(written.expect("appends").len(), each);
            }
        }

        async fn state(&self) -> (u64, u64, Vec<Cid>) {
            let state = self.store.logs().await.expect("reads").remove(0);
            let heads = self.store.heads(&self.log.definition.address, 16).await.expect("reads");
            (state.entries, state.waiting, heads.into_iter().map(|head| head.cid).collect())
        }

        fn mail(&mut self) -> Vec<EnvelopeId> {
            std::iter::from_fn(|| self.news.try_recv().ok())
                .flat_map(|news| news.received.shown)
                .map(|(id, _)| id)
                .collect()
        }
    }

    fn limits() -> Limits {
        Limits { frame: std::time::Duration::from_secs(60), ..Limits::default() }
    }

    async fn run(ours: &Node, theirs: &Node) -> Exchange {
        let (here, there) = crate::sync::tests::pipe(65_536);
        // As a node does it.
        let replica = theirs.replica.clone();
        let serving = tokio::spawn(serve(there, async move |_| Ok(replica), limits()));
        let (log, replica) = (ours.log.clone(), ours.replica.clone());
        let asking = async move { exchange(here, log.mailbox, log.month, true, &replica, limits()).await };
        let (exchanged, served) = tokio::try_join!(tokio::spawn(asking), serving).expect("no panic");
        let served = served.expect("serves");
        let exchanged = exchanged.expect("exchanges");
        assert_eq!((exchanged.came.junk, served.came.junk), (0, 0));
        exchanged
    }

    fn letter(to: MailboxId, text: &str) -> Envelope {
        let sender = SecretKey::generate().expect("randomness");
        let mut options = SealOptions::default();
        options.backdate = false;
        seal(&Draft::text(text), &sender, to, NOW, &options).expect("seals").envelope
    }

    #[tokio::test]
    async fn two_stores_come_to_have_the_same_graph() {
        let owner = SecretKey::generate().expect("randomness");
        let (mut ours, mut theirs) = (Node::of(owner.id()).await, Node::of(owner.id()).await);
        ours.write("ours", 6, 100).await;
        theirs.write("theirs", 3, 150).await;
        let letters: Vec<_> = (0..20).map(|number| letter(owner.id(), &number.to_string())).collect();
        let writer = Arc::new(Writer::generate().expect("a key"));
        let address = theirs.log.definition.address.clone();
        theirs.store.append(&address, letters.clone(), writer, Vec::new()).await.expect("appends");

        let exchanged = run(&ours, &theirs).await;
        assert_eq!((exchanged.came.new, exchanged.more, exchanged.peer.entries), (470, false, 470));
        assert_eq!((ours.state().await, ours.state().await.0), (theirs.state().await, 1_070));
        assert_eq!(ours.state().await.1, 0, "nothing waits");
        let mut mail = ours.mail();
        mail.sort_unstable();
        let mut sent: Vec<_> = letters.iter().map(Envelope::id).collect();
        sent.sort_unstable();
        assert_eq!((mail, theirs.mail()), (sent, Vec::new()));

        let again = run(&ours, &theirs).await;
        assert_eq!((again.came.blocks, again.sent.blocks), (0, 0));
    }

    #[tokio::test]
    async fn a_letter_is_pushed_on_top_of_heads_that_only_the_peer_has() {
        let owner = SecretKey::generate().expect("randomness");
        let (ours, mut theirs) = (Node::of(owner.id()).await, Node::of(owner.id()).await);
        theirs.write("theirs", 1, 5).await;
        let letter = letter(owner.id(), "hello");
        let (here, there) = crate::sync::tests::pipe(65_536);
        let pushing = async {
            let push = Push::begin(here, ours.log.mailbox, ours.log.month, limits()).await.expect("begins");
            let writer = Arc::new(Writer::generate().expect("a key"));
            let address = &ours.log.definition.address;
            let onto = push.standing().heads.clone();
            let appended = ours.store.append(address, vec![letter.clone()], Arc::clone(&writer), onto).await;
            let entry = appended.expect("appends").remove(0).entry.expect("is new");
            let sent = push.give(address.manifest(), &[writer.identity().clone(), entry]).await.expect("gives");
            assert_eq!(sent.blocks, 2);
            theirs.store.held(vec![letter.id()]).await.expect("reads")
        };
        let serving = serve(there, async |_| Ok(theirs.replica.clone()), limits());
        let (held, served) = tokio::join!(pushing, serving);
        assert_eq!(held, [Some(letter.expires_at())]);
        assert_eq!(served.expect("serves").came.new, 1);
        let (entries, waiting, heads) = theirs.state().await;
        assert_eq!((entries, waiting, heads.len()), (6, 0, 1), "it is joined on top");
        assert_eq!(theirs.mail(), [letter.id()]);
        let served: &dyn Holdings = &theirs.store;
        assert_eq!(served.held(vec![letter.id()]).await.expect("reads"), [Some(letter.expires_at())]);
    }

    fn record(code: Shortcode, created_at: Timestamp) -> MailboxRecord {
        let key = SecretKey::generate().expect("randomness");
        let fields = RecordFields::new(vec!["ipfs:/ip4/192.0.2.1/tcp/4001".parse().expect("a locator")]);
        MailboxRecord::sign(&key, code, fields, created_at).expect("signs")
    }

    #[tokio::test]
    async fn records_are_kept_until_they_expire_and_the_oldest_go_first() {
        let clock = clock();
        let store = Store::open(None, Arc::<ManualClock>::clone(&clock), StoreLimits::default()).await.expect("opens");
        let again = StoredRecords::open(store.clone(), Arc::<ManualClock>::clone(&clock)).await.expect("opens");
        let records = StoredRecords {
            most: 2,
            ..StoredRecords::open(store, Arc::<ManualClock>::clone(&clock)).await.expect("again")
        };
        let codes: Vec<_> = (0..3).map(|byte| Shortcode::of(&MailboxId::from_bytes([byte; 32]))).collect();
        let get = async |code: usize| records.get(codes[code]).await.expect("reads").map(|json| json.to_string());
        assert_eq!(get(0).await, None);
        let (old, new) = (record(codes[0], NOW.minus(100)), record(codes[0], NOW));
        for record in [&old, &new] {
            records.put(record.clone()).await.expect("puts");
            assert_eq!(get(0).await, Some(record.event().to_json()));
        }
        let (older, newer) = (record(codes[1], NOW.minus(10)), record(codes[2], NOW.plus(10)));
        records.put(older.clone()).await.expect("puts");
        assert_eq!(get(1).await, Some(older.event().to_json()));
        // The third one has no room, and it is the oldest that goes.
        records.put(newer.clone()).await.expect("puts");
        assert_eq!((get(0).await, get(1).await), (Some(new.event().to_json()), None));
        clock.set(NOW.plus(400 * 86_400));
        assert_eq!((get(0).await, get(2).await), (None, Some(newer.event().to_json())));
        // What has expired makes room.
        let fresh = record(codes[1], NOW.plus(20));
        records.put(fresh).await.expect("puts");
        assert!(get(1).await.is_some() && again.get(codes[2]).await.expect("reads").is_some());
    }
}
