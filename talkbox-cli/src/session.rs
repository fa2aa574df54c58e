//! What every command stands on: the configuration, the secrets, the store and the client, opened when needed.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use talkbox_core::{
    Clock, OpenContext, Registry, SecretKey, SystemClock,
    address::MAX_HINTS,
    client::{Settings, Talkbox},
    config::{Config, Opened, Origin},
    layers::Stack,
    local::{Store, StoreKey},
};

use crate::{
    args::Global,
    exit::{Failure, Outcome},
    keyring::{Entry, Keyring, Unlocked},
    output::Output,
    password::Password,
    paths::Paths,
    settings::{self, Own},
};

/// How long a command goes on sending what is queued before it ends.
const LAST_DRAIN: Duration = Duration::from_secs(2);

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) output: Output,
    pub(crate) paths: Paths,
    pub(crate) keyring: Keyring,
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    pub(crate) clock: Arc<dyn Clock>,
    config_path: PathBuf,
    offline: bool,
    timeout: Option<u64>,
    /// When the network was first asked for something: from then on `--timeout` counts, not while a password is typed.
    asked_at: OnceLock<Instant>,
    /// Whether a mailbox was named for this command, by its flag or in the environment.
    names_mailbox: bool,
}

/// An open client.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) talkbox: Talkbox,
    /// The key of the mailbox that was asked for.
    pub(crate) key: Option<SecretKey>,
}

impl Live {
    /// The key of the mailbox.
    ///
    /// # Errors
    /// Where none was asked for.
    pub(crate) fn key(&self) -> Outcome<&SecretKey> {
        self.key.as_ref().ok_or_else(|| Failure::internal("the mailbox was not unlocked"))
    }

    /// Closes the client and the store.
    pub(crate) async fn close(self) {
        self.talkbox.close().await;
    }
}

/// An open store, for commands that leave the network alone.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) store: Store,
}

impl Local {
    /// Closes the store.
    pub(crate) async fn close(self) {
        self.store.close().await;
    }
}

impl Session {
    /// Reads the configuration. Nothing is opened yet, and no network is touched.
    ///
    /// # Errors
    /// Where the configuration cannot be read or is wrong.
    pub(crate) fn new(global: &Global, registry: Registry) -> Outcome<Self> {
        let paths = Paths::find()?;
        let config_path = global.config.clone().unwrap_or_else(|| paths.config());
        let config = settings::load(global, &config_path)?;
        let own = Own::of(&config)?;
        let names_mailbox = matches!(config.origin("mailbox"), Origin::Flag { .. } | Origin::Environment { .. });
        Ok(Self {
            output: Output::new(own.json, own.quiet, own.verbose, own.no_color),
            keyring: Keyring::new(paths.clone(), Password::new(own.password_file)),
            paths,
            config,
            registry,
            clock: Arc::new(SystemClock),
            config_path,
            offline: own.offline,
            timeout: own.timeout,
            asked_at: OnceLock::new(),
            names_mailbox,
        })
    }

    /// Where the configuration is, or would be.
    pub(crate) const fn config_path(&self) -> &PathBuf {
        &self.config_path
    }

    /// Whether the network is left alone.
    pub(crate) const fn is_offline(&self) -> bool {
        self.offline
    }

    /// How long the network may take now: what is left of `--timeout`, else so long.
    pub(crate) fn budget(&self, default: Duration) -> Duration {
        self.left().unwrap_or(default)
    }

    /// What is left of `--timeout`, where it was said.
    pub(crate) fn left(&self) -> Option<Duration> {
        let asked_at = self.asked_at.get_or_init(Instant::now);
        self.timeout.map(|seconds| Duration::from_secs(seconds).saturating_sub(asked_at.elapsed()))
    }

    /// The mailbox that a command means: the one that it names, else that of `--mailbox` and of the configuration, else
    /// the first one.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn entry(&self, name: Option<&str>) -> Outcome<Entry> {
        self.keyring.find(name.or(self.config.mailbox()))
    }

    /// The mailbox that a command means where it names none; `None` where there is no mailbox on this computer.
    ///
    /// # Errors
    /// `NotFound` where one was named that does not exist.
    pub(crate) fn entry_if_any(&self) -> Outcome<Option<Entry>> {
        if self.keyring.list()?.is_empty() && self.config.mailbox().is_none() {
            return Ok(None);
        }
        self.entry(None).map(Some)
    }

    /// Whether a mailbox was named for this command alone.
    pub(crate) const fn names_mailbox(&self) -> bool {
        self.names_mailbox
    }

    /// Whether somebody chose a network: none is used that nobody chose.
    pub(crate) fn is_configured(&self) -> bool {
        let chosen =
            |key: &str, origin: &Origin| key == "backend" || key.starts_with("backends.") && *origin != Origin::Default;
        self.config.origin("backend") != Origin::Default
            || self.config.entries(&self.registry).is_ok_and(|entries| {
                entries.iter().any(|entry| entry.origin != Origin::Default && chosen(&entry.key, &entry.origin))
            })
    }

    /// Says how to choose a network.
    pub(crate) fn unconfigured_note(&self) {
        self.output.warn("no network is configured, so nobody can be reached: `talkbox config init` writes a configuration with public relays, and `--backend nostr:wss://RELAY` names one for a single command");
    }

    /// # Errors
    /// Where nobody chose a network.
    pub(crate) fn require_network(&self) -> Outcome<()> {
        if self.is_configured() {
            return Ok(());
        }
        Err(Failure::new(crate::exit::Code::BadInput, "config-invalid", "no network is configured").hint(
            "`talkbox config init` writes a configuration with public relays, `--backend nostr:wss://RELAY` names one",
        ))
    }

    /// Opens the backends in use. No network is touched by that.
    ///
    /// # Errors
    /// Where the configuration is wrong.
    pub(crate) async fn open_backends(&self) -> Outcome<Opened> {
        let plan = self.config.plan(&self.registry)?;
        Ok(plan.open(&Stack::default(), |name| self.context(name)).await?)
    }

    /// What the backend of a name is opened with.
    pub(crate) fn context(&self, name: &str) -> OpenContext {
        let mut context = OpenContext::new(name);
        context.clock = Arc::clone(&self.clock);
        context.data_dir = Some(self.paths.data().join("backends").join(name));
        context.allow_private = self.config.allow_private();
        context.proxy = self.config.proxy().cloned();
        context
    }

    /// Opens everything, with the key of a mailbox where one is given.
    ///
    /// # Errors
    /// `Locked` for a wrong password; where the configuration or the store cannot be used.
    pub(crate) async fn open(&self, entry: Option<&Entry>) -> Outcome<Live> {
        let keys = self.unlock(entry)?;
        let store = self.store(&keys).await?;
        if let Some(entry) = entry {
            store.set_work_floor(entry.id, self.config.work()).await?;
        }
        self.client(store, keys.mailbox).await
    }

    async fn client(&self, store: Store, key: Option<SecretKey>) -> Outcome<Live> {
        let mut opened = self.open_backends().await?;
        if self.offline {
            // What is pinned has to be enough.
            opened.transports.clear();
        }
        let mut settings = Settings::default();
        settings.min_acks = self.config.min_acks().map(|acks| u32::try_from(acks).unwrap_or(u32::MAX));
        settings.retention = self.config.retention_secs();
        settings.work = self.config.work();
        settings.allow_private = self.config.allow_private();
        settings.proxy = self.config.proxy().cloned();
        let talkbox = Talkbox::new(store, opened, self.registry.clone(), Arc::clone(&self.clock), settings);
        Ok(Live { talkbox, key })
    }

    /// Opens the store alone.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) async fn open_store(&self) -> Outcome<Local> {
        let keys = self.unlock(None)?;
        Ok(Local { store: self.store(&keys).await? })
    }

    fn unlock(&self, entry: Option<&Entry>) -> Outcome<Unlocked> {
        if let Some(entry) = entry.filter(|entry| entry.weak) {
            self.output.warn(format_args!(
                "the passphrase of `{}` is easy to guess: whoever guesses it owns the mailbox",
                entry.name
            ));
        }
        self.keyring.unlock(entry)
    }

    async fn store(&self, keys: &Unlocked) -> Outcome<Store> {
        let key = StoreKey::from_bytes(*keys.store.to_bytes());
        Ok(Store::open(&self.paths.store(), key, Arc::clone(&self.clock)).await?)
    }

    /// What every command does before it ends: sends what is queued, for up to two seconds, and closes.
    pub(crate) async fn finish(&self, live: Live) {
        if !self.offline && self.is_configured() {
            let budget = self.left().map_or(LAST_DRAIN, |left| left.min(LAST_DRAIN));
            match live.talkbox.drain(live.key.as_slice(), budget).await {
                Ok(drained) if drained.stored > 0 => {
                    self.output.note(format_args!("stored what was queued: {}", drained.stored));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the outbox could not be drained"),
            }
        }
        live.close().await;
    }

    /// The same for a command that opened the store alone: the backends are opened only where something is due.
    pub(crate) async fn finish_store(&self, local: Local) {
        let due = match local.store.next_due().await {
            Ok(due) => due.is_some_and(|due| due <= self.clock.now()),
            Err(_) => false,
        };
        if !due || self.offline || !self.is_configured() {
            return local.close().await;
        }
        match self.client(local.store.clone(), None).await {
            Ok(live) => self.finish(live).await,
            // Whoever only reads need not have a configuration that is right.
            Err(failure) => {
                tracing::warn!(error = failure.message(), "the outbox could not be drained");
                local.close().await;
            }
        }
    }

    /// URLs of the relays on which the mailboxes of this computer live, for links and QR codes.
    pub(crate) async fn relay_hints(&self) -> Vec<String> {
        if !self.is_configured() {
            return Vec::new();
        }
        let Ok(opened) = self.open_backends().await else { return Vec::new() };
        // Also those of a backend that only finds: that is what a hint is for.
        let hints = opened
            .holders()
            .into_iter()
            .filter(|holder| holder.scheme() == "nostr")
            .map(|holder| holder.rest().to_owned());
        let hints = hints.take(MAX_HINTS).collect();
        opened.close().await;
        hints
    }
}
