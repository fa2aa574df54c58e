//! What a configuration is read from, all of it handed in: a file's text, the environment, flags.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::{
    origin::Origin,
    value::{Given, Setting, from_toml, invalid},
};
use crate::{Error, ErrorKind, Result};

/// Most bytes of a configuration file: far more than anybody writes, and little enough to read at once.
const MAX_FILE: usize = 1 << 20;
/// What the names of all variables begin with.
const PREFIX: &str = "TALKBOX_";
/// The variables in which other programs look for a proxy.
const ALL_PROXY: [&str; 2] = ["ALL_PROXY", "all_proxy"];

/// What a configuration is read from. Later sources override earlier ones: file, environment, flags.
#[derive(Clone, Default)]
pub struct Sources {
    file: Option<(PathBuf, String)>,
    environment: BTreeMap<String, String>,
    /// The name of the variable, and the proxy that it names for all programs.
    all_proxy: Option<(&'static str, String)>,
    flags: Vec<(&'static str, &'static str, String)>,
    own: Vec<(&'static str, Value)>,
}

impl std::fmt::Debug for Sources {
    /// The names alone: a value may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file.as_ref().map(|(path, _)| path))
            .field("environment", &self.environment.keys())
            .field("flags", &self.flags.iter().map(|(name, ..)| name).collect::<Vec<_>>())
            .finish()
    }
}

impl Sources {
    /// Nothing but the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file: its path, which is named in errors, and its text (TOML).
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.file = Some((path.into(), text.into()));
        self
    }

    /// The environment. Only variables that begin with `TALKBOX_` are looked at, and `ALL_PROXY`, which counts where
    /// nothing here sets a proxy.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        for (name, value) in variables {
            if let Some(name) = ALL_PROXY.into_iter().find(|known| *known == name) {
                // The name in capitals comes first, in whatever order they are given.
                if name == ALL_PROXY[0] || self.all_proxy.is_none() {
                    self.all_proxy = Some((name, value));
                }
            } else if name.starts_with(PREFIX) {
                self.environment.insert(name, value);
            }
        }
        self
    }

    /// A flag that was given: its name as it is typed, the key that it sets, its value.
    ///
    /// ```
    /// # use talkbox_core::config::Sources;
    /// Sources::new().flag("--backend", "backend", "gossip:https://node.example");
    /// ```
    #[must_use]
    pub fn flag(mut self, name: &'static str, key: &'static str, value: impl Into<String>) -> Self {
        self.flags.push((name, key, value.into()));
        self
    }

    /// A key at the top that the program has for itself, and its default, which says of what type it is.
    ///
    /// ```
    /// # use talkbox_core::config::{Config, Sources};
    /// let sources = Sources::new().own("quiet", false).flag("--quiet", "quiet", "true");
    /// assert_eq!(Config::load(sources)?.own("quiet"), Some(&true.into()));
    /// # Ok::<(), talkbox_core::Error>(())
    /// ```
    #[must_use]
    pub fn own(mut self, key: &'static str, default: impl Into<Value>) -> Self {
        self.own.push((key, default.into()));
        self
    }

    /// The keys that the program has for itself.
    pub(super) fn take_own(&mut self) -> Vec<(&'static str, Value)> {
        std::mem::take(&mut self.own)
    }

    /// Everything that was given, key by key, with what overrides last.
    pub(super) fn settings(self, top: &[&str]) -> Result<Vec<(Vec<String>, Setting)>> {
        let mut settings = match self.file {
            Some((path, text)) => of_file(path, &text)?,
            None => Vec::new(),
        };
        for (name, value) in self.environment {
            if let Some(key) = key_of_variable(&name, &settings, top)? {
                settings.push((key, Setting { given: Given::Text(value), origin: Origin::Environment { name } }));
            }
        }
        for (name, key, value) in self.flags {
            let key = key.split('.').map(str::to_owned).collect();
            settings.push((key, Setting { given: Given::Text(value), origin: Origin::Flag { name } }));
        }
        if let Some((name, value)) = self.all_proxy
            && settings.iter().all(|(key, _)| *key != ["proxy"])
        {
            let setting = Setting { given: Given::Text(value), origin: Origin::Environment { name: name.to_owned() } };
            settings.push((vec!["proxy".to_owned()], setting));
        }
        Ok(settings)
    }
}

/// The settings of a TOML file, each with its line.
fn of_file(path: PathBuf, text: &str) -> Result<Vec<(Vec<String>, Setting)>> {
    let path = Arc::new(path);
    let at = |offset: usize| Origin::File {
        path: Arc::clone(&path),
        line: 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count(),
    };
    if text.len() > MAX_FILE {
        return Err(invalid("a configuration has at most 1 MiB", &at(0)));
    }
    let table = DeTable::parse(text).map_err(|error| {
        // The message alone: the error's own form quotes the line, which may hold a secret.
        invalid(error.message().replace('\n', ", "), &at(error.span().map_or(0, |span| span.start)))
    })?;
    let mut settings = Vec::new();
    flatten(table.get_ref(), &mut Vec::new(), &at, &mut settings)?;
    Ok(settings)
}

/// The leaves of a table. A table without any is kept, since a backend may be named and left as it is. The parser
/// bounds the depth.
fn flatten(
    table: &DeTable<'_>,
    path: &mut Vec<String>,
    at: &impl Fn(usize) -> Origin,
    settings: &mut Vec<(Vec<String>, Setting)>,
) -> Result<()> {
    for (key, value) in table {
        path.push(key.get_ref().as_ref().to_owned());
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => flatten(inner, path, at, settings)?,
            leaf => {
                let origin = at(key.span().start);
                let value = from_toml(leaf).map_err(|why| invalid(why, &origin))?;
                settings.push((path.clone(), Setting { given: Given::Typed(value), origin }));
            }
        }
        path.pop();
    }
    Ok(())
}

/// The key that a variable sets: `TALKBOX_MIN_ACKS` is `min_acks`, `TALKBOX_BACKENDS__NOSTR__RELAYS` is
/// `backends.nostr.relays`. `None` for a variable that means something else to the program.
fn key_of_variable(name: &str, settings: &[(Vec<String>, Setting)], top: &[&str]) -> Result<Option<Vec<String>>> {
    let key = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
    if top.contains(&key.as_str()) {
        return Ok(Some(vec![key]));
    }
    let mut path: Vec<String> = key.split("__").map(str::to_owned).collect();
    if path[0] == "backends" && path.len() >= 3 && path.iter().all(|part| !part.is_empty()) {
        // A variable cannot hold a dash: where the file has the key with one, that is the one meant.
        for depth in 1..path.len() {
            let same = |known: &&Vec<String>| {
                known.len() > depth && known[..depth] == path[..depth] && known[depth].replace('-', "_") == path[depth]
            };
            if let Some(known) = settings.iter().map(|(known, _)| known).find(same) {
                path[depth] = known[depth].clone();
            }
        }
        return Ok(Some(path));
    }
    // Other variables are the program's own, such as the one that names the file; but not a misspelt one.
    match crate::nearest(&key, top.iter().copied().chain(["backends"])) {
        None => Ok(None),
        Some(nearest) => {
            let meant = match nearest {
                "backends" => "TALKBOX_BACKENDS__NAME__KEY".to_owned(),
                key => format!("{PREFIX}{}", key.to_uppercase()),
            };
            Err(Error::new(ErrorKind::ConfigInvalid, format!("there is no variable `{name}`; did you mean `{meant}`?")))
        }
    }
}

/// A table of settings in the form that backends are given.
pub(super) fn nest(leaves: impl IntoIterator<Item = (Vec<String>, Value)>) -> serde_json::Map<String, Value> {
    let mut root = serde_json::Map::new();
    for (path, value) in leaves {
        let Some((last, tables)) = path.split_last() else { continue };
        let mut table = &mut root;
        for part in tables {
            let inner = table.entry(part.clone()).or_insert_with(|| Value::Object(serde_json::Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(serde_json::Map::new());
            }
            table = inner.as_object_mut().expect("it was made a table just now");
        }
        table.insert(last.clone(), value);
    }
    root
}
