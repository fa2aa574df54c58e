//! Backends: one opened network with one or both halves, and the registry that opens them by name.

use std::{cell::RefCell, collections::BTreeMap, fmt, iter, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use serde::de::{DeserializeOwned, value::MapDeserializer};

use crate::{
    Error, ErrorKind, Result,
    clock::{Clock, SystemClock},
    config::sounds_secret,
    mailbox::Mailbox,
    proxy::Proxy,
    transport::Transport,
};

/// An opened backend. Both halves share what is behind them, such as a pool of connections.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct Backend {
    /// Where envelopes live.
    pub mailbox: Option<Arc<dyn Mailbox>>,
    /// How mailboxes are found.
    pub transport: Option<Arc<dyn Transport>>,
}

impl Backend {
    /// A backend of both halves.
    pub fn new(mailbox: Arc<dyn Mailbox>, transport: Arc<dyn Transport>) -> Self {
        Self { mailbox: Some(mailbox), transport: Some(transport) }
    }

    /// A backend that only stores.
    pub fn of_mailbox(mailbox: Arc<dyn Mailbox>) -> Self {
        Self { mailbox: Some(mailbox), transport: None }
    }

    /// A backend that only finds.
    pub fn of_transport(transport: Arc<dyn Transport>) -> Self {
        Self { mailbox: None, transport: Some(transport) }
    }

    /// Closes both halves.
    pub async fn close(&self) {
        if let Some(mailbox) = &self.mailbox {
            mailbox.close().await;
        }
        if let Some(transport) = &self.transport {
            transport.close().await;
        }
    }
}

/// The settings of one backend, as they stand in the configuration: a table of keys and values, in no format.
#[derive(Clone, Default, PartialEq)]
pub struct BackendConfig(serde_json::Map<String, serde_json::Value>);

impl BackendConfig {
    /// From a table.
    pub const fn new(table: serde_json::Map<String, serde_json::Value>) -> Self {
        Self(table)
    }

    /// The table.
    pub const fn table(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.0
    }

    /// Reads the settings into a backend's own type, which should be `deny_unknown_fields` and `default`.
    ///
    /// # Errors
    /// `ConfigInvalid`, with what was expected and, where one key is to blame, with that `key`. The value of a key that
    /// sounds like a secret is not repeated.
    pub fn read<T: DeserializeOwned>(self) -> Result<T> {
        let at = RefCell::new(None);
        let visited = self.0.into_iter().inspect(|(key, _)| drop(at.replace(Some(key.clone()))));
        // Past the last key none is to blame: what is wrong then is what is missing.
        let visited = visited.chain(iter::from_fn(|| {
            at.replace(None);
            None
        }));
        let read = T::deserialize(MapDeserializer::<_, serde_json::Error>::new(visited));
        read.map_err(|error| match at.take() {
            None => Error::new(ErrorKind::ConfigInvalid, error.to_string()),
            Some(key) if sounds_secret(&key) => {
                Error::new(ErrorKind::ConfigInvalid, "the value is of another kind than this key takes")
                    .with("key", key)
            }
            Some(key) => Error::new(ErrorKind::ConfigInvalid, error.to_string()).with("key", key),
        })
    }
}

impl fmt::Debug for BackendConfig {
    /// The keys alone: a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What a backend is given when it is opened, apart from its settings.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct OpenContext {
    /// The name of this instance in the configuration.
    pub name: String,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// A folder of this instance's own, for what it remembers; `None` to remember nothing.
    pub data_dir: Option<PathBuf>,
    /// Whether locators of other people's records may lead to addresses that are not global, such as loopback.
    pub allow_private: bool,
    /// The proxy to reach holders by. Where there is one, no name of a holder is resolved here, and nobody is reached
    /// past it whose place is not on the user's own network and in the user's own configuration.
    pub proxy: Option<Proxy>,
}

impl OpenContext {
    /// With the system's clock, nothing remembered, and only global addresses from others' records.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), clock: Arc::new(SystemClock), data_dir: None, allow_private: false, proxy: None }
    }
}

/// A kind of backend: its name, and how to open one. This is all that a third party hands to the [`Registry`].
#[derive(Clone, Copy)]
pub struct BackendDef {
    /// The name, as in `backend = "nostr"`.
    pub name: &'static str,
    /// One line that says what it is.
    pub about: &'static str,
    /// The schemes of the locators that it opens.
    pub schemes: &'static [&'static str],
    /// The key of the setting that takes the rest of a URI such as `gossip:https://node.example`, as a list; `None`
    /// where a URI says nothing.
    pub uri_key: Option<&'static str>,
    /// Every key of its settings, so that a misspelt one can be corrected.
    pub keys: &'static [&'static str],
    /// Those of the keys that hold a list, besides the one of the URI: a variable of the environment gives one with
    /// commas, as in `TALKBOX_BACKENDS__MINE__NODES=a,b`.
    pub list_keys: &'static [&'static str],
    /// Opens one.
    pub open: fn(BackendConfig, OpenContext) -> BoxFuture<'static, Result<Backend>>,
}

impl fmt::Debug for BackendDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendDef").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A backend of halves: a name that a program gives to the mailbox of one kind and the transport of another. It is what a
/// table with `mailbox` and `transport` is in the configuration, and such a table of the same name takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Composition {
    /// The name, as in `backend = "hybrid"`.
    pub name: &'static str,
    /// The backend whose mailbox it takes.
    pub mailbox: &'static str,
    /// The backend whose transport it takes.
    pub transport: &'static str,
}

/// The kinds of backend that a program knows: an explicit value, without globals.
///
/// ```
/// use talkbox_core::{Registry, memory};
///
/// let registry = Registry::new().with(memory::backend());
/// assert_eq!(registry.get("memory")?.name, "memory");
/// assert!(registry.get("memroy").unwrap_err().to_string().contains("memory"));
/// # Ok::<(), talkbox_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Registry {
    kinds: BTreeMap<&'static str, BackendDef>,
    compositions: BTreeMap<&'static str, Composition>,
}

impl Registry {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Knows one more.
    ///
    /// # Panics
    /// Where the name is taken: two backends of one name are a mistake in the program, found at its start.
    #[must_use]
    pub fn with(mut self, def: BackendDef) -> Self {
        let taken = self.kinds.insert(def.name, def).is_some() || self.compositions.contains_key(def.name);
        assert!(!taken, "two backends are named `{}`", def.name);
        self
    }

    /// Knows one more name: the mailbox of one backend with the transport of another.
    ///
    /// # Panics
    /// Where the name is taken, or one of the two is not known: mistakes in the program, found at its start.
    #[must_use]
    pub fn with_composition(mut self, name: &'static str, mailbox: &'static str, transport: &'static str) -> Self {
        for half in [mailbox, transport] {
            assert!(self.kinds.contains_key(half), "there is no backend `{half}` for `{name}`");
        }
        let composition = Composition { name, mailbox, transport };
        let taken = self.compositions.insert(name, composition).is_some() || self.kinds.contains_key(name);
        assert!(!taken, "two backends are named `{name}`");
        self
    }

    /// The kind of this name.
    ///
    /// # Errors
    /// `ConfigInvalid`, which lists those that there are and the nearest.
    pub fn get(&self, name: &str) -> Result<&BackendDef> {
        self.kinds.get(name).ok_or_else(|| {
            let known = self.kinds.keys().copied().collect::<Vec<_>>().join(", ");
            let nearest = crate::nearest(name, self.kinds.keys().copied());
            let meant = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
            Error::new(ErrorKind::ConfigInvalid, format!("there is no backend `{name}`{meant}")).with("known", known)
        })
    }

    /// The kind that opens locators of this scheme.
    pub fn for_scheme(&self, scheme: &str) -> Option<&BackendDef> {
        self.kinds.values().find(|def| def.schemes.contains(&scheme))
    }

    /// All kinds, by name.
    pub fn iter(&self) -> impl Iterator<Item = &BackendDef> {
        self.kinds.values()
    }

    /// All compositions that have a name without being configured, by name.
    pub fn compositions(&self) -> impl Iterator<Item = &Composition> {
        self.compositions.values()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        nodes: Vec<String>,
        #[serde(default)]
        limit: Option<u8>,
        #[serde(default)]
        api_token: String,
        #[serde(default)]
        inner: BTreeMap<String, u8>,
    }

    fn read(value: serde_json::Value) -> Result<Settings> {
        let serde_json::Value::Object(table) = value else { panic!("a table") };
        BackendConfig::new(table).read()
    }

    #[test]
    fn settings_become_the_backends_own_type() {
        let settings = read(json!({ "nodes": ["a"], "limit": 3, "inner": { "x": 1 } })).expect("reads");
        let inner = BTreeMap::from([("x".to_owned(), 1)]);
        let expected = Settings { nodes: vec!["a".to_owned()], limit: Some(3), api_token: String::new(), inner };
        assert_eq!(settings, expected);
    }

    #[test]
    fn a_mistake_names_its_key_and_no_secret() {
        for (table, key) in [
            (json!({ "nodes": "a" }), Some("nodes")),
            (json!({ "nodes": [1] }), Some("nodes")),
            (json!({ "limit": 300, "nodes": [] }), Some("limit")),
            (json!({ "inner": { "x": "no" }, "nodes": [] }), Some("inner")),
            (json!({ "nods": [], "nodes": [] }), Some("nods")),
            (json!({ "api_token": 918_273, "nodes": [] }), Some("api_token")),
            (json!({ "limit": 3 }), None),
        ] {
            let error = read(table).expect_err("a mistake");
            assert_eq!((error.kind(), error.context("key")), (ErrorKind::ConfigInvalid, key), "{error}");
            assert!(!error.to_string().contains("918273"), "{error}");
        }
        assert!(read(json!({})).expect_err("a mistake").to_string().contains("nodes"), "what is missing is named");
    }
}
