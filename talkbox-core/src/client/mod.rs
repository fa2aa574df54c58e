//! The client: everything that a program does with mailboxes, over any backends, from one local store.
//!
//! It is local-first. Sending commits to the outbox and returns; reading is served from the store; networks only have
//! to be there sometimes. A network is asked, its answers are checked, and nothing that it says is taken for granted.

mod announce;
mod conversations;
mod delete;
mod drafts;
mod drain;
mod find;
mod moved;
mod pending;
mod put_back;
mod resolve;
mod routes;
mod send;
mod sync;
mod watch;

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use self::routes::Routes;
pub use self::{
    announce::Announced,
    delete::Deleted,
    drafts::LaterRequest,
    drain::Drained,
    find::Resolved,
    send::{Replied, SendRequest, Sent},
    sync::{Imported, Synced},
    watch::ClientEvent,
};
use crate::{
    Authorizer, Clock, KeyAuthorizer, Locator, Proxy, Registry, Result, SecretKey, config::Opened,
    envelope::DEFAULT_RETENTION, local::Store,
};

/// What the owner of a client decides once.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many distinct holders make a message count as stored; 2 where there are two, unless set.
    pub min_acks: Option<u32>,
    /// How long holders keep what is sent and what is received, in seconds.
    pub retention: u64,
    /// Work that one's own mailbox asks of senders, in bits.
    pub work: u8,
    /// Whether locators of other people's records may lead to addresses that are not global, such as loopback.
    pub allow_private: bool,
    /// The proxy by which backends that are opened for those locators reach them.
    pub proxy: Option<Proxy>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { min_acks: None, retention: DEFAULT_RETENTION, work: 0, allow_private: false, proxy: None }
    }
}

/// A client. A clone is the same client.
#[derive(Clone)]
pub struct Talkbox(Arc<Inner>);

struct Inner {
    store: Store,
    opened: Opened,
    routes: Routes,
    clock: Arc<dyn Clock>,
    settings: Settings,
    /// Whom one is to holders that want to know any key before they take something; one for all of them, since a
    /// connection carries one identity.
    nobody: OnceLock<SecretKey>,
    /// The time of the message that was written last, in milliseconds.
    last_written: AtomicU64,
}

impl Talkbox {
    /// A client of opened backends and a store. `registry` opens what the records of others lead to.
    pub fn new(store: Store, opened: Opened, registry: Registry, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        let routes = Routes::new(&opened, registry, Arc::clone(&clock), &settings);
        Self(Arc::new(Inner {
            store,
            opened,
            routes,
            clock,
            settings,
            nobody: OnceLock::new(),
            last_written: AtomicU64::new(0),
        }))
    }

    /// The local store.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The opened backends.
    pub fn backends(&self) -> &Opened {
        &self.0.opened
    }

    /// The holders of one's own mailboxes, in order of preference.
    pub fn holders(&self) -> Vec<Locator> {
        self.0.routes.holders()
    }

    /// Closes the backends, then the store.
    pub async fn close(&self) {
        self.0.opened.close().await;
        self.0.routes.close().await;
        self.0.store.close().await;
    }

    /// Answers as the owner, to one's own holders alone.
    fn owner_auth(&self, key: &SecretKey) -> Arc<dyn Authorizer> {
        Arc::new(KeyAuthorizer::for_holders(key.clone(), self.0.opened.holders(), Arc::clone(&self.0.clock)))
    }

    /// Answers as nobody in particular, for holders that want to know any key before they take something.
    fn anyone_auth(&self) -> Result<Arc<dyn Authorizer>> {
        let fresh = SecretKey::generate()?;
        let key = self.0.nobody.get_or_init(|| fresh).clone();
        Ok(Arc::new(KeyAuthorizer::for_anyone(key, Arc::clone(&self.0.clock))))
    }
}

impl fmt::Debug for Talkbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Talkbox").field("store", &self.0.store).field("opened", &self.0.opened).finish_non_exhaustive()
    }
}

/// How long a network is asked for what may have changed, when what is known would do.
const REFRESH: Duration = Duration::from_secs(2);
