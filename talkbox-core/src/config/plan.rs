//! What has to be opened: the instances behind a name, each of them once.

use std::{collections::BTreeMap, fmt};

use super::{
    instance::{Form, Settled, no_such_name},
    origin::Origin,
    value::invalid,
};
use crate::{BackendConfig, BackendDef, Result};

/// Most instances that one composition leads to: each of them holds connections open.
const MOST_MEMBERS: usize = 16;

/// What has to be opened for a backend: the instances behind its name, and which halves of them are used.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    members: Vec<Member>,
    mailboxes: Vec<String>,
    transports: Vec<Half>,
}

/// One instance of a kind of backend.
#[derive(Clone)]
pub struct Member {
    /// Its name in the configuration.
    pub name: String,
    /// Its kind.
    pub def: BackendDef,
    /// Its settings.
    pub config: BackendConfig,
    /// Where its settings came from, by key; and, under the empty key, where it was named.
    pub(super) origins: BTreeMap<String, Origin>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("name", &self.name)
            .field("kind", &self.def.name)
            .field("settings", &self.config)
            .finish()
    }
}

/// A transport that is used.
#[derive(Clone, Debug)]
pub(super) struct Half {
    pub(super) name: String,
    /// It was asked for by name, so that it is a mistake when the instance has none. One that comes along with its
    /// mailbox may be missing.
    pub(super) named: bool,
}

impl Plan {
    /// The instances, each once, in order of preference.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The names of the instances of which the mailbox is used, in order of preference.
    pub fn mailboxes(&self) -> &[String] {
        &self.mailboxes
    }

    /// The names of the instances of which the transport is used, where they have one, in order of preference.
    pub fn transports(&self) -> impl Iterator<Item = &str> {
        self.transports.iter().map(|half| half.name.as_str())
    }

    pub(super) fn halves(&self) -> &[Half] {
        &self.transports
    }
}

impl Settled<'_> {
    /// The plan of the backend in use.
    pub(super) fn plan_in_use(&self) -> Result<Plan> {
        self.plan_named(self.backend(), self.backend_origin())
    }

    /// The plan of a name that has a table.
    pub(super) fn plan(&self, name: &str) -> Result<Plan> {
        let origin = self.form(name).map_or(&Origin::Default, |(_, origin)| origin);
        self.plan_named(name, origin)
    }

    /// The plan of one instance of a kind, by its table or by its defaults.
    pub(super) fn plan_for_kind(&self, def: &BackendDef) -> Result<Plan> {
        self.plan_named(self.instance_of(def).unwrap_or(def.name), &Origin::Default)
    }

    fn plan_named(&self, name: &str, origin: &Origin) -> Result<Plan> {
        let mut plan = Plan::default();
        self.add_mailboxes(name, origin, &mut Vec::new(), &mut plan)?;
        self.add_transports(name, origin, false, &mut Vec::new(), &mut plan)?;
        Ok(plan)
    }

    fn add_mailboxes(&self, name: &str, origin: &Origin, path: &mut Vec<String>, plan: &mut Plan) -> Result<()> {
        if let Some((Form::Composition { mailbox: (members, place), .. }, _)) = self.form(name) {
            enter(name, origin, path)?;
            for member in members {
                self.add_mailboxes(member, place, path, plan)?;
            }
            path.pop();
            return Ok(());
        }
        self.add_member(name, origin, plan)?;
        if !plan.mailboxes.iter().any(|other| other == name) {
            plan.mailboxes.push(name.to_owned());
        }
        Ok(())
    }

    /// A composition's transports are those that it names, else those of its members.
    fn add_transports(
        &self,
        name: &str,
        origin: &Origin,
        named: bool,
        path: &mut Vec<String>,
        plan: &mut Plan,
    ) -> Result<()> {
        if let Some((Form::Composition { mailbox, transport }, _)) = self.form(name) {
            let (members, place) = transport.as_ref().unwrap_or(mailbox);
            enter(name, origin, path)?;
            for member in members {
                self.add_transports(member, place, transport.is_some(), path, plan)?;
            }
            path.pop();
            return Ok(());
        }
        self.add_member(name, origin, plan)?;
        match plan.transports.iter_mut().find(|half| half.name == name) {
            Some(half) => half.named |= named,
            None => plan.transports.push(Half { name: name.to_owned(), named }),
        }
        Ok(())
    }

    fn add_member(&self, name: &str, origin: &Origin, plan: &mut Plan) -> Result<()> {
        if plan.members.iter().any(|member| member.name == name) {
            return Ok(());
        }
        if plan.members.len() == MOST_MEMBERS {
            return Err(invalid(format!("a composition leads to at most {MOST_MEMBERS} backends"), origin));
        }
        let (def, config, mut origins) = match self.form(name) {
            Some((form @ Form::Leaf { def, settings, .. }, _)) => {
                let origins = settings.iter().map(|(path, (_, origin))| (path[0].clone(), origin.clone())).collect();
                (*def, form.config(), origins)
            }
            _ => {
                let def = self.registry().get(name).map_err(|_| no_such_name(name, self, origin))?;
                (*def, BackendConfig::default(), BTreeMap::new())
            }
        };
        let place = self.form(name).map_or(origin, |(_, place)| place);
        origins.insert(String::new(), place.clone());
        plan.members.push(Member { name: name.to_owned(), def, config, origins });
        Ok(())
    }
}

/// Goes into a composition, unless it is being gone through already.
fn enter(name: &str, origin: &Origin, path: &mut Vec<String>) -> Result<()> {
    let cycle = path.iter().position(|other| other == name);
    path.push(name.to_owned());
    match cycle {
        Some(first) => {
            let way = path[first..].join(" → ");
            Err(invalid(format!("the composition `{name}` contains itself: {way}"), origin))
        }
        None => Ok(()),
    }
}
