//! Opens a plan: every instance once, each half inside its layers.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::plan::{Member, Plan};
use crate::{
    Error, ErrorKind, Result,
    backend::{Backend, OpenContext},
    layers::{Metrics, Stack},
    locator::Locator,
    mailbox::Mailbox,
    transport::Transport,
};

/// How long a backend may take to open, and to close. Opening connects to nobody by itself; closing has to leave the
/// program time to end within ten seconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a plan opened. Both halves of an instance share what is behind them.
#[derive(Default)]
pub struct Opened {
    /// The mailboxes in use, inside their layers, by the name of their instance, in order of preference.
    pub mailboxes: Vec<(String, Arc<dyn Mailbox>)>,
    /// The transports in use, inside their layers, by the name of their instance, in order of preference.
    pub transports: Vec<(String, Arc<dyn Transport>)>,
    /// What the layers counted, instance by instance.
    pub metrics: Vec<(String, Arc<Metrics>)>,
    backends: Vec<(String, Backend)>,
}

impl Plan {
    /// Opens every instance once, all at the same time, and wraps the halves that are used in layers. `context` gives
    /// what the instance of a name is opened with.
    ///
    /// # Errors
    /// Of the first instance that cannot be opened, with its name and the place of its settings, once the others have
    /// been closed again; `ConfigInvalid` where an instance does not have the half that is asked of it.
    pub async fn open(&self, stack: &Stack, context: impl Fn(&str) -> OpenContext) -> Result<Opened> {
        let opening = self.members().iter().map(|member| member.open(context(&member.name)));
        let mut opened = Opened::default();
        let mut failed = None;
        for (member, backend) in self.members().iter().zip(join_all(opening).await) {
            match backend {
                Ok(backend) => opened.backends.push((member.name.clone(), backend)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let wrapped = match failed {
            Some(error) => Err(error),
            None => opened.take_halves(self, stack),
        };
        match wrapped {
            Ok(()) => Ok(opened),
            Err(error) => {
                opened.close().await;
                Err(error)
            }
        }
    }
}

impl Member {
    async fn open(&self, context: OpenContext) -> Result<Backend> {
        let opened = timeout(PATIENCE, (self.def.open)(self.config.clone(), context)).await;
        let opened = opened.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "the backend does not open")));
        opened.map_err(|error| {
            let place = self.origins.get(error.context("key").unwrap_or_default());
            let error = error.op("open").with("backend", &self.name);
            match place.or_else(|| self.origins.get("")) {
                Some(place) => error.with("at", place),
                None => error,
            }
        })
    }

    /// This instance does not have a half that it was asked for.
    fn lacks(&self, half: &str) -> Error {
        let message = format!("the backend `{}` has no {half}", self.name);
        let error = Error::new(ErrorKind::ConfigInvalid, message);
        match self.origins.get("") {
            Some(place) => error.with("at", place),
            None => error,
        }
    }
}

impl Opened {
    fn take_halves(&mut self, plan: &Plan, stack: &Stack) -> Result<()> {
        for (member, (name, backend)) in plan.members().iter().zip(&self.backends) {
            let stack = stack.apart();
            if plan.mailboxes().contains(name) {
                let mailbox = backend.mailbox.as_ref().ok_or_else(|| member.lacks("mailbox"))?;
                self.mailboxes.push((name.clone(), stack.mailbox(Arc::clone(mailbox))));
            }
            let half = plan.halves().iter().find(|half| half.name == *name);
            match (half, &backend.transport) {
                (Some(_), Some(transport)) => {
                    self.transports.push((name.clone(), stack.transport(Arc::clone(transport))));
                }
                (Some(half), None) if half.named => return Err(member.lacks("transport")),
                _ => {}
            }
            self.metrics.push((name.clone(), stack.metrics()));
        }
        // Instances are opened in the order of the plan; each half has an order of its own.
        let place = |names: &[&str], name: &str| names.iter().position(|other| *other == name);
        let order: Vec<&str> = plan.mailboxes().iter().map(String::as_str).collect();
        self.mailboxes.sort_by_key(|(name, _)| place(&order, name));
        let order: Vec<&str> = plan.transports().collect();
        self.transports.sort_by_key(|(name, _)| place(&order, name));
        Ok(())
    }

    /// Every holder that is configured, each once: those of the mailboxes in use first, then those of backends of which
    /// only the transport is used. The key of a mailbox may prove itself to these.
    pub fn holders(&self) -> Vec<Locator> {
        let used = self.mailboxes.iter().map(|(_, mailbox)| mailbox);
        let beside = self.backends.iter().filter_map(|(_, backend)| backend.mailbox.as_ref());
        let mut holders = Vec::new();
        for holder in used.chain(beside).flat_map(|mailbox| mailbox.holders()) {
            if !holders.contains(&holder) {
                holders.push(holder);
            }
        }
        holders
    }

    /// Closes every instance; one that does not end is left after a few seconds.
    pub async fn close(&self) {
        join_all(self.backends.iter().map(async |(name, backend)| {
            if timeout(PATIENCE, backend.close()).await.is_err() {
                tracing::warn!(backend = name, "the backend does not close");
            }
        }))
        .await;
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.backends.iter().map(|(name, _)| name);
        f.debug_tuple("Opened").field(&names.collect::<Vec<_>>()).finish()
    }
}
