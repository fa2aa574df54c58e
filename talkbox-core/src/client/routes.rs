//! Routes: from a locator to the opened mailbox that can reach it.
//!
//! Sending follows the recipient: the locators of a record may be of a network that is not one's own. Its backend is
//! then opened without settings, once.

use std::{collections::BTreeMap, fmt, sync::Arc};

use tokio::sync::Mutex;

use crate::{
    BackendConfig, Clock, Error, ErrorKind, Locator, Mailbox, OpenContext, Registry, Result, backend::Backend,
    config::Opened, layers::Stack,
};

pub(super) struct Routes {
    own: Vec<Arc<dyn Mailbox>>,
    registry: Registry,
    clock: Arc<dyn Clock>,
    allow_private: bool,
    /// By scheme. Bounded by the number of schemes that the registry knows.
    foreign: Mutex<BTreeMap<String, Foreign>>,
}

/// A backend that was opened for what records of others lead to.
struct Foreign {
    backend: Backend,
    mailbox: Arc<dyn Mailbox>,
}

impl Routes {
    pub(super) fn new(opened: &Opened, registry: Registry, clock: Arc<dyn Clock>, allow_private: bool) -> Self {
        let own = opened.mailboxes.iter().map(|(_, mailbox)| Arc::clone(mailbox)).collect();
        Self { own, registry, clock, allow_private, foreign: Mutex::default() }
    }

    /// The mailbox that reaches this holder: the one that is configured with it, else any that opens its scheme.
    ///
    /// # Errors
    /// `Unsupported` where no backend that is known opens the scheme.
    pub(super) async fn to(&self, holder: &Locator) -> Result<Arc<dyn Mailbox>> {
        let opens = |mailbox: &&Arc<dyn Mailbox>| mailbox.descriptor().schemes.contains(&holder.scheme());
        let configured = self.own.iter().find(|mailbox| mailbox.holders().contains(holder));
        if let Some(mailbox) = configured.or_else(|| self.own.iter().find(opens)) {
            return Ok(Arc::clone(mailbox));
        }
        let mut foreign = self.foreign.lock().await;
        if let Some(Foreign { mailbox, .. }) = foreign.get(holder.scheme()) {
            return Ok(Arc::clone(mailbox));
        }
        let unsupported =
            || Error::new(ErrorKind::Unsupported, "no backend opens this kind of place").with("holder", holder);
        let def = self.registry.for_scheme(holder.scheme()).ok_or_else(unsupported)?;
        let mut context = OpenContext::new(def.name);
        context.clock = Arc::clone(&self.clock);
        context.allow_private = self.allow_private;
        let backend = (def.open)(BackendConfig::default(), context).await?;
        let mailbox = Stack::default().mailbox(backend.mailbox.clone().ok_or_else(unsupported)?);
        foreign.insert(holder.scheme().to_owned(), Foreign { backend, mailbox: Arc::clone(&mailbox) });
        Ok(mailbox)
    }

    pub(super) async fn close(&self) {
        let foreign = std::mem::take(&mut *self.foreign.lock().await);
        for Foreign { backend, .. } in foreign.into_values() {
            backend.close().await;
        }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("registry", &self.registry).finish_non_exhaustive()
    }
}
