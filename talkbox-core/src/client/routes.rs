//! Routes: from a locator to the opened mailbox that can reach it.
//!
//! Sending follows the recipient: the locators of a record may be of a network that is not one's own. Its backend is
//! then opened without settings, once, as a guest among one's own mailboxes.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::Mutex;

use super::Settings;

use crate::{
    BackendConfig, Clock, Error, ErrorKind, Locator, Mailbox, OpenContext, Proxy, Registry, Result,
    backend::Backend,
    config::Opened,
    layers::Stack,
    replicas::{Replica, Replicas},
};

pub(super) struct Routes {
    replicas: RwLock<Replicas>,
    registry: Registry,
    clock: Arc<dyn Clock>,
    allow_private: bool,
    proxy: Option<Proxy>,
    /// What was opened for the places of others: at most one for each scheme that the registry knows.
    guests: Mutex<Vec<Backend>>,
}

impl Routes {
    pub(super) fn new(opened: &Opened, registry: Registry, clock: Arc<dyn Clock>, settings: &Settings) -> Self {
        let own = opened.mailboxes.iter().map(|(name, mailbox)| (name.clone(), Arc::clone(mailbox)));
        let Settings { allow_private, proxy, min_acks, .. } = settings.clone();
        let replicas = Replicas::new(own, min_acks.map(|acks| acks as usize));
        Self { replicas: RwLock::new(replicas), registry, clock, allow_private, proxy, guests: Mutex::default() }
    }

    /// The holders of one's own mailboxes, each once, in order of preference.
    pub(super) fn holders(&self) -> Vec<Locator> {
        self.with_replicas(|replicas| replicas.holders().into_iter().map(|(_, holder)| holder).collect())
    }

    /// How many distinct holders have to confirm an envelope that goes to so many places, where nobody asked for a
    /// number.
    pub(super) fn min_acks(&self, places: usize) -> usize {
        self.with_replicas(|replicas| replicas.min_acks(places))
    }

    /// The mailbox that reaches this holder: the one that is configured with it, else any that opens its scheme.
    ///
    /// # Errors
    /// `Unsupported` where no backend that is known opens the scheme.
    pub(super) async fn to(&self, holder: &Locator) -> Result<Arc<dyn Mailbox>> {
        if let Some(mailbox) = self.opened(holder) {
            return Ok(mailbox);
        }
        let mut guests = self.guests.lock().await;
        // Somebody else may have opened it meanwhile.
        if let Some(mailbox) = self.opened(holder) {
            return Ok(mailbox);
        }
        let unsupported =
            || Error::new(ErrorKind::Unsupported, "no backend opens this kind of place").with("holder", holder);
        let def = self.registry.for_scheme(holder.scheme()).ok_or_else(unsupported)?;
        let mut context = OpenContext::new(def.name);
        context.clock = Arc::clone(&self.clock);
        context.allow_private = self.allow_private;
        context.proxy = self.proxy.clone();
        let backend = (def.open)(BackendConfig::default(), context).await?;
        let mailbox = Stack::default().mailbox(backend.mailbox.clone().ok_or_else(unsupported)?);
        guests.push(backend);
        let mut replicas = self.replicas.write().unwrap_or_else(PoisonError::into_inner);
        replicas.add_guest(def.name, Arc::clone(&mailbox));
        Ok(mailbox)
    }

    pub(super) async fn close(&self) {
        for backend in std::mem::take(&mut *self.guests.lock().await) {
            backend.close().await;
        }
    }

    fn opened(&self, holder: &Locator) -> Option<Arc<dyn Mailbox>> {
        let mailbox = |replica: &Replica| Arc::clone(&replica.mailbox);
        self.with_replicas(|replicas| replicas.for_locator(holder).map(mailbox))
    }

    fn with_replicas<T>(&self, with: impl FnOnce(&Replicas) -> T) -> T {
        with(&self.replicas.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes").field("replicas", &self.replicas).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BackendDef, SystemClock};

    #[tokio::test]
    async fn what_records_of_others_lead_to_is_reached_by_the_proxy() {
        let probe = BackendDef {
            name: "probe",
            about: "says how it was opened",
            schemes: &["probe"],
            uri_key: None,
            keys: &[],
            list_keys: &[],
            open: |_, context| {
                let proxy = context.proxy.map(|proxy| proxy.to_string()).unwrap_or_default();
                Box::pin(async { Err(Error::new(ErrorKind::Unexpected, proxy)) })
            },
        };
        let proxy = "socks5://127.0.0.1:9050";
        let settings = Settings { proxy: Some(proxy.parse().expect("a proxy")), ..Settings::default() };
        let registry = Registry::new().with(probe);
        let routes = Routes::new(&Opened::default(), registry, Arc::new(SystemClock), &settings);
        let error = routes.to(&"probe:somewhere".parse().expect("a locator")).await.expect_err("it does not open");
        assert_eq!(error.message(), proxy);
    }
}
