//! The tables under `backends`: instances of kinds, and compositions of other tables.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    Config,
    origin::Origin,
    sources::nest,
    unknown,
    value::{Given, Setting, Shape, invalid, split},
};
use crate::{BackendConfig, BackendDef, Error, ErrorKind, Registry, Result};

/// One table under `backends`, as it was given.
#[derive(Debug)]
pub(super) struct Instance {
    origin: Origin,
    settings: BTreeMap<Vec<String>, Setting>,
}

impl Instance {
    pub(super) const fn at(origin: Origin) -> Self {
        Self { origin, settings: BTreeMap::new() }
    }

    /// Sets a key over what an earlier source said; a text takes the shape of what it replaces, where that has one.
    pub(super) fn set(&mut self, key: &[String], mut setting: Setting, shape: Option<Shape>) -> Result<()> {
        let replaced = |other: &Vec<String>| other.starts_with(key) || key.starts_with(other);
        // A composition takes a name or a list of names: both read from a text.
        let either = matches!(key, [half] if half == "mailbox" || half == "transport");
        if let (Given::Text(_), Some(shape), false) = (&setting.given, shape, either) {
            setting.given = Given::Typed(setting.value(&key.join("."), Some(shape))?);
        }
        self.settings.retain(|other, _| !replaced(other));
        self.settings.insert(key.to_vec(), setting);
        Ok(())
    }

    fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.get(std::slice::from_ref(&key.to_owned()) as &[String])
    }
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Form {
    /// An instance of a kind, with its settings.
    Leaf { def: BackendDef, kind: Origin, settings: BTreeMap<Vec<String>, (Value, Origin)> },
    /// Other names, of which it takes the halves.
    Composition { mailbox: (Vec<String>, Origin), transport: Option<(Vec<String>, Origin)> },
}

impl Form {
    /// What a backend of this form is opened with.
    pub(super) fn config(&self) -> BackendConfig {
        match self {
            Self::Leaf { settings, .. } => {
                BackendConfig::new(nest(settings.iter().map(|(path, (value, _))| (path.clone(), value.clone()))))
            }
            Self::Composition { .. } => BackendConfig::default(),
        }
    }
}

/// The tables under `backends` with every kind known: texts have become values, and a URI the settings that it means.
#[derive(Debug)]
pub(super) struct Settled<'a> {
    registry: &'a Registry,
    backend: String,
    backend_origin: Origin,
    forms: BTreeMap<String, (Form, Origin)>,
}

impl Config {
    pub(super) fn settled<'a>(&self, registry: &'a Registry) -> Result<Settled<'a>> {
        let mut forms = BTreeMap::new();
        for (name, instance) in &self.instances {
            forms.insert(name.clone(), (form(name, instance, registry)?, instance.origin.clone()));
        }
        // Those that the program knows by itself; a table of the same name is what the user wants instead.
        for composition in registry.compositions() {
            forms.entry(composition.name.to_owned()).or_insert_with(|| {
                let half = |name: &str| (vec![name.to_owned()], Origin::Default);
                let (mailbox, transport) = (half(composition.mailbox), Some(half(composition.transport)));
                (Form::Composition { mailbox, transport }, Origin::Default)
            });
        }
        let mut settled =
            Settled { registry, backend: self.backend.clone(), backend_origin: self.origin("backend"), forms };
        if let Some((name, rest)) = self.backend.split_once(':') {
            settled.take_uri(name, rest)?;
            settled.backend = name.to_owned();
        }
        Ok(settled)
    }
}

impl<'a> Settled<'a> {
    /// The name of the backend in use.
    pub(super) fn backend(&self) -> &str {
        &self.backend
    }

    /// Where the backend in use was named.
    pub(super) const fn backend_origin(&self) -> &Origin {
        &self.backend_origin
    }

    /// The kinds that there are.
    pub(super) const fn registry(&self) -> &'a Registry {
        self.registry
    }

    /// Every name that has a table, or that the program gives to a composition.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.forms.keys().map(String::as_str)
    }

    /// What a name stands for, where it has a table.
    pub(super) fn form(&self, name: &str) -> Option<&(Form, Origin)> {
        self.forms.get(name)
    }

    /// The first instance of a kind that has a table, in the order of names; the kind's own name comes first.
    pub(super) fn instance_of(&self, def: &BackendDef) -> Option<&str> {
        let is_of = |form: &Form| matches!(form, Form::Leaf { def: other, .. } if other.name == def.name);
        let own = self.forms.get_key_value(def.name).filter(|(_, (form, _))| is_of(form));
        own.or_else(|| self.forms.iter().find(|(_, (form, _))| is_of(form))).map(|(name, _)| name.as_str())
    }

    /// Every setting of every table: the name of the table, the key, the value, and where it came from.
    pub(super) fn settings(&self) -> Vec<(&str, Vec<String>, Value, Origin)> {
        let mut rows = Vec::new();
        for (name, (form, origin)) in &self.forms {
            // What nobody wrote and nobody uses is not in force.
            if *origin == Origin::Default && *name != self.backend {
                continue;
            }
            let mut row = |key: &str, value: Value, origin: &Origin| {
                rows.push((name.as_str(), vec![key.to_owned()], value, origin.clone()));
            };
            match form {
                Form::Composition { mailbox, transport } => {
                    row("mailbox", Value::from(mailbox.0.clone()), &mailbox.1);
                    if let Some((names, origin)) = transport {
                        row("transport", Value::from(names.clone()), origin);
                    }
                }
                Form::Leaf { def, kind, settings } => {
                    row("kind", Value::from(def.name), kind);
                    let settings = settings.iter();
                    rows.extend(
                        settings.map(|(path, (value, origin))| {
                            (name.as_str(), path.clone(), value.clone(), origin.clone())
                        }),
                    );
                }
            }
        }
        rows
    }

    /// `gossip:https://node.example` is the backend `gossip` with the list that its kind takes from a URI.
    fn take_uri(&mut self, name: &str, rest: &str) -> Result<()> {
        let origin = self.backend_origin.clone();
        if !self.forms.contains_key(name) {
            let def = *known_kind(self.registry, name, &origin)?;
            let form = Form::Leaf { def, kind: origin.clone(), settings: BTreeMap::new() };
            self.forms.insert(name.to_owned(), (form, origin.clone()));
        }
        let list = split(rest);
        if list.as_array().is_none_or(Vec::is_empty) {
            return Err(invalid(format!("nothing follows `{name}:`"), &origin));
        }
        match self.forms.get_mut(name).map(|(form, _)| form) {
            Some(Form::Leaf { def: BackendDef { uri_key: Some(key), .. }, settings, .. }) => {
                settings.insert(vec![(*key).to_owned()], (list, origin));
                Ok(())
            }
            _ => Err(invalid(format!("the backend `{name}` takes nothing after a colon"), &origin)),
        }
    }
}

/// What one table stands for.
fn form(name: &str, instance: &Instance, registry: &Registry) -> Result<Form> {
    if let Some(mailbox) = instance.get("mailbox") {
        let halves = ["mailbox", "transport"];
        if let Some((path, setting)) = instance.settings.iter().find(|(path, _)| !halves.contains(&path[0].as_str())) {
            let key = path.join(".");
            let message = format!("`{name}` is a composition, since it has a `mailbox`: it has no setting `{key}`");
            return Err(invalid(message, &setting.origin));
        }
        let half = |setting: &Setting, key| Ok::<_, Error>((setting.names(key)?, setting.origin.clone()));
        let transport = instance.get("transport").map(|setting| half(setting, "transport")).transpose()?;
        return Ok(Form::Composition { mailbox: half(mailbox, "mailbox")?, transport });
    }
    let (def, kind) = match instance.get("kind") {
        None => (known_kind(registry, name, &instance.origin)?, Origin::Default),
        Some(kind) => {
            let name = kind.value("kind", Some(Shape::Text))?;
            (known_kind(registry, name.as_str().unwrap_or_default(), &kind.origin)?, kind.origin.clone())
        }
    };
    let mut settings = BTreeMap::new();
    for (path, setting) in &instance.settings {
        let key = path[0].as_str();
        if key == "kind" {
            continue;
        }
        if !def.keys.contains(&key) {
            return Err(unknown(key, def.keys.iter().copied().chain(["kind"]), &setting.origin).with("backend", name));
        }
        let is_list = path.len() == 1 && (def.uri_key == Some(key) || def.list_keys.contains(&key));
        let shape = is_list.then_some(Shape::List);
        let shape = shape.filter(|_| matches!(setting.given, Given::Text(_)));
        settings.insert(path.clone(), (setting.value(&path.join("."), shape)?, setting.origin.clone()));
    }
    Ok(Form::Leaf { def: *def, kind, settings })
}

/// The kind of this name; the error says where it was asked for.
fn known_kind<'a>(registry: &'a Registry, kind: &str, origin: &Origin) -> Result<&'a BackendDef> {
    registry.get(kind).map_err(|error| error.with("at", origin))
}

/// A name that neither a table nor a kind has.
pub(super) fn no_such_name(name: &str, settled: &Settled<'_>, origin: &Origin) -> Error {
    let kinds = settled.registry().iter().map(|def| def.name);
    let known: std::collections::BTreeSet<&str> = settled.names().chain(kinds).collect();
    let meant = crate::nearest(name, known.iter().copied()).map(|nearest| format!("; did you mean `{nearest}`?"));
    let message = format!("there is no backend `{name}`{}", meant.unwrap_or_default());
    Error::new(ErrorKind::ConfigInvalid, message)
        .with("known", known.into_iter().collect::<Vec<_>>().join(", "))
        .with("at", origin)
}
