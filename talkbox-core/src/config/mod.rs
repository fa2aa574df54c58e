//! The configuration: which backend is in use, and with which settings. Switching networks is switching one word here.
//!
//! ```toml
//! backend = "nostr"                     # a kind of backend, or a name below
//!
//! [backends.nostr]
//! relays = ["wss://relay.example"]
//!
//! [backends.home]                       # an instance of a kind, under a name of one's own
//! kind = "gossip"
//! nodes = ["https://node.example"]
//!
//! [backends.hybrid]                     # a composition: the two halves by name
//! mailbox = "ipfs"
//! transport = "nostr"
//!
//! [backends.everywhere]                 # replication; the transports are those of all members unless named
//! mailbox = ["nostr", "home", "ipfs"]
//! ```
//!
//! A table with `mailbox` is a composition; any other has a `kind`, by default its own name. A flag overrides the
//! environment, that the file, and that the default. Reading is pure: everything comes in through [`Sources`], and
//! nothing here knows a file system or a network.
//!
//! Variables are `TALKBOX_BACKEND`, `TALKBOX_MIN_ACKS` and so on, and `TALKBOX_BACKENDS__NOSTR__RELAYS` for what is in
//! a table. A value is read in the type that the key has in the file or that its backend says it has, where commas
//! part a list; else as TOML, and as a text where it is none.

mod instance;
mod opened;
mod origin;
mod plan;
mod sources;
mod value;

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

pub(crate) use self::value::sounds_secret;
use self::{
    instance::Instance,
    value::{Setting, Shape, invalid, shown},
};
pub use self::{
    opened::Opened,
    origin::Origin,
    plan::{Member, Plan},
    sources::Sources,
};
use crate::{Proxy, Registry, Result};

/// The keys at the top, and of what type their values are.
const TOP: [(&str, Shape); 7] = [
    ("backend", Shape::Text),
    ("mailbox", Shape::Text),
    ("min_acks", Shape::Integer),
    ("retention", Shape::Integer),
    ("work", Shape::Integer),
    ("allow_private", Shape::Boolean),
    ("proxy", Shape::Text),
];
/// Most that `min_acks` may ask for: as many holders as several compositions of records of eight places have.
const MOST_ACKS: u64 = 64;

/// Most work that a mailbox may ask of senders, in bits: some seconds on a phone.
const MOST_WORK: u64 = 22;

/// The settings that are in force.
pub struct Config {
    backend: String,
    mailbox: Option<String>,
    min_acks: Option<usize>,
    retention: u32,
    work: u8,
    allow_private: bool,
    proxy: Option<Proxy>,
    /// Where the values at the top came from; those that nobody set are not in it.
    origins: BTreeMap<&'static str, Origin>,
    instances: BTreeMap<String, Instance>,
    /// The keys that the program has for itself.
    own: Vec<(&'static str, Value)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            backend: "nostr".to_owned(),
            mailbox: None,
            min_acks: None,
            retention: 90,
            work: 0,
            allow_private: false,
            proxy: None,
            origins: BTreeMap::new(),
            instances: BTreeMap::new(),
            own: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the configuration. What belongs to a backend is checked by [`check`](Self::check), which knows the kinds.
    ///
    /// # Errors
    /// `ConfigInvalid`, with the place: a file that is no TOML, a key that does not exist and the one that it is
    /// nearest to, a value of another type, a number out of its range.
    pub fn load(mut sources: Sources) -> Result<Self> {
        let mut config = Self { own: sources.take_own(), ..Self::default() };
        let names = config.top_names();
        // The value of a key in the file says of what type one from the environment has to be.
        let mut shapes: BTreeMap<Vec<String>, Shape> = BTreeMap::new();
        for (path, setting) in sources.settings(&names)? {
            if let value::Given::Typed(value) = &setting.given
                && let Some(shape) = Shape::of(value)
            {
                shapes.insert(path.clone(), shape);
            }
            match path.as_slice() {
                [top, rest @ ..] if top == "backends" => {
                    config.set_instance(rest, setting, shapes.get(&path).copied())?;
                }
                [key] => config.set(key, &setting)?,
                _ => return Err(unknown(&path.join("."), names, &setting.origin)),
            }
        }
        Ok(config)
    }

    /// The keys at the top.
    fn top_names(&self) -> Vec<&'static str> {
        TOP.iter().map(|(name, _)| *name).chain(self.own.iter().map(|(name, _)| *name)).collect()
    }

    fn set(&mut self, key: &str, setting: &Setting) -> Result<()> {
        if let Some((name, own)) = self.own.iter_mut().find(|(name, _)| *name == key) {
            *own = setting.value(name, Shape::of(own))?;
            self.origins.insert(name, setting.origin.clone());
            return Ok(());
        }
        let Some((name, shape)) = TOP.into_iter().find(|(name, _)| *name == key) else {
            return Err(unknown(key, self.top_names().into_iter().chain(["backends"]), &setting.origin));
        };
        let value = setting.value(name, Some(shape))?;
        let text = || value.as_str().unwrap_or_default().to_owned();
        let number = |least: u64, most: u64| {
            value
                .as_u64()
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| invalid(format!("`{name}` is a number from {least} to {most}"), &setting.origin))
        };
        match name {
            "backend" => self.backend = text(),
            "mailbox" if text().is_empty() => return Err(invalid("`mailbox` names a mailbox", &setting.origin)),
            "mailbox" => self.mailbox = Some(text()),
            // 0 would call stored what nobody stores.
            "min_acks" => self.min_acks = Some(usize::try_from(number(1, MOST_ACKS)?).unwrap_or(usize::MAX)),
            // Days: the bounds are those of formats.md, §§3 and 6.
            "retention" => self.retention = u32::try_from(number(30, 400)?).unwrap_or(u32::MAX),
            "work" => self.work = u8::try_from(number(0, MOST_WORK)?).unwrap_or(u8::MAX),
            "proxy" if text().is_empty() => self.proxy = None,
            "proxy" => {
                let wrong = |error: crate::Error| {
                    let rule = format!("`proxy`: {}; an empty one means none", error.message());
                    invalid(rule, &setting.origin)
                };
                self.proxy = Some(text().parse().map_err(wrong)?);
            }
            _ => self.allow_private = value.as_bool().unwrap_or_default(),
        }
        self.origins.insert(name, setting.origin.clone());
        Ok(())
    }

    fn set_instance(&mut self, path: &[String], setting: Setting, shape: Option<Shape>) -> Result<()> {
        let [name, key @ ..] = path else {
            return Err(invalid("`backends` holds tables, as in `[backends.nostr]`", &setting.origin));
        };
        // It becomes the name of a folder and of a metric.
        let well_formed = name.len() <= 32
            && name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && name.chars().all(|symbol| matches!(symbol, 'a'..='z' | '0'..='9' | '-' | '_'));
        if !well_formed {
            let rule = "the name of a backend has at most 32 symbols of `a` to `z`, `0` to `9`, `-` and `_`";
            return Err(invalid(rule, &setting.origin).with("name", name));
        }
        let empty_table = matches!(&setting.given, value::Given::Typed(Value::Object(table)) if table.is_empty());
        if key.is_empty() && !empty_table {
            let rule = format!("`backends.{name}` is a table, as in `[backends.{name}]`");
            return Err(invalid(rule, &setting.origin));
        }
        let instance = self.instances.entry(name.clone()).or_insert_with(|| Instance::at(setting.origin.clone()));
        if !key.is_empty() {
            instance.set(key, setting, shape)?;
        }
        Ok(())
    }

    /// Checks what belongs to backends: that their kinds exist, that those have these keys, that compositions hold.
    ///
    /// # Errors
    /// `ConfigInvalid`, with the place and the nearest of what there is.
    pub fn check(&self, registry: &Registry) -> Result<()> {
        let settled = self.settled(registry)?;
        for name in settled.names() {
            settled.plan(name)?;
        }
        self.plan(registry).map(drop)
    }

    /// What has to be opened for the backend in use.
    ///
    /// # Errors
    /// As [`check`](Self::check), for what is in use.
    pub fn plan(&self, registry: &Registry) -> Result<Plan> {
        let settled = self.settled(registry)?;
        settled.plan_in_use()
    }

    /// What has to be opened for locators of a scheme that no backend in use opens: the instance of such a kind that
    /// is configured, or one with the default settings. `None` where no kind opens them.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn plan_for_scheme(&self, scheme: &str, registry: &Registry) -> Result<Option<Plan>> {
        let Some(def) = registry.for_scheme(scheme) else { return Ok(None) };
        let settled = self.settled(registry)?;
        settled.plan_for_kind(def).map(Some)
    }

    /// Every value that is in force, and where it came from; what may be a secret is hidden.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn entries(&self, registry: &Registry) -> Result<Vec<Entry>> {
        let settled = self.settled(registry)?;
        let top = [
            ("backend", Value::from(settled.backend())),
            ("mailbox", self.mailbox.as_deref().map_or(Value::Null, Value::from)),
            ("min_acks", self.min_acks.map_or(Value::Null, Value::from)),
            ("retention", Value::from(self.retention)),
            ("work", Value::from(self.work)),
            ("allow_private", Value::from(self.allow_private)),
            ("proxy", self.proxy.as_ref().map_or(Value::Null, |proxy| Value::from(proxy.to_string()))),
        ];
        let own = self.own.iter().map(|(key, value)| (*key, value.clone()));
        let top = top.into_iter().chain(own).map(|(key, value)| Entry {
            key: key.to_owned(),
            value,
            origin: self.origin(key),
        });
        let backends = settled.settings().into_iter().map(|(name, path, value, origin)| Entry {
            key: format!("backends.{name}.{}", path.join(".")),
            value: shown(&path, &value),
            origin,
        });
        Ok(top.chain(backends).collect())
    }

    /// The backend in use, as it was given: a name, or a URI.
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// The mailbox that a command means where it names none; the first one where that was not set.
    pub fn mailbox(&self) -> Option<&str> {
        self.mailbox.as_deref()
    }

    /// How many distinct holders have to confirm an envelope before it counts as stored, where that was set.
    pub const fn min_acks(&self) -> Option<usize> {
        self.min_acks
    }

    /// How long envelopes that are sent ask to be kept, in seconds.
    pub const fn retention_secs(&self) -> u64 {
        self.retention as u64 * 86_400
    }

    /// The work that one's own mailboxes ask of senders, in bits; what shows less is a request.
    pub const fn work(&self) -> u8 {
        self.work
    }

    /// Whether locators of other people's records may lead to addresses that are not global.
    pub const fn allow_private(&self) -> bool {
        self.allow_private
    }

    /// The proxy that leads to holders, where there is one.
    pub const fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// The value of a key that the program has for itself; `None` where it has no such key.
    pub fn own(&self, key: &str) -> Option<&Value> {
        self.own.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Where the value of a key at the top came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

impl fmt::Debug for Config {
    /// Of the backends the names alone: their settings may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("backend", &value::without_credentials(&self.backend))
            .field("mailbox", &self.mailbox)
            .field("min_acks", &self.min_acks)
            .field("retention", &self.retention)
            .field("work", &self.work)
            .field("allow_private", &self.allow_private)
            .field("proxy", &self.proxy)
            .field("backends", &self.instances.keys())
            .finish()
    }
}

/// One value that is in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its key, with dots: `backends.nostr.relays`.
    pub key: String,
    /// Its value; `null` where there is none, `"(hidden)"` where it may be a secret.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// A key that does not exist, and the one that it is nearest to.
fn unknown<'a>(key: &str, known: impl IntoIterator<Item = &'a str> + Clone, origin: &Origin) -> crate::Error {
    let meant = crate::nearest(key, known.clone()).map(|nearest| format!("; did you mean `{nearest}`?"));
    let known = known.into_iter().collect::<Vec<_>>().join(", ");
    invalid(format!("there is no setting `{key}`{}", meant.unwrap_or_default()), origin).with("known", known)
}
