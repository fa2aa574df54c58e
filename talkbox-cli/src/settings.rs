//! The settings of the command itself, beside those of the library: each is a flag, a variable of the environment and a
//! key of the configuration file, and overrides what comes after it in this order.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use talkbox_core::config::{Config, Sources};

use crate::{
    args::Global,
    exit::{Failure, Outcome},
    text,
};

/// Variables that are no settings: those of single commands, and those that `watch --exec` hands to its command.
const NO_SETTINGS: [&str; 8] = [
    "TALKBOX_CONFIG",
    "TALKBOX_FROM",
    "TALKBOX_HOME",
    "TALKBOX_ID",
    "TALKBOX_LOG",
    "TALKBOX_PASSPHRASE_FILE",
    "TALKBOX_SUBJECT",
    "TALKBOX_TIME",
];
/// What the variables of `talkbox node` begin with.
const NODE: &str = "TALKBOX_NODE_";
/// Settings that are on or off.
const SWITCHES: [&str; 4] = ["json", "quiet", "no_color", "offline"];

/// What the command itself is set to.
#[derive(Debug)]
pub(crate) struct Own {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: u8,
    pub(crate) no_color: bool,
    pub(crate) offline: bool,
    pub(crate) timeout: Option<u64>,
    pub(crate) password_file: Option<PathBuf>,
}

impl Own {
    /// Out of the configuration.
    ///
    /// # Errors
    /// Where the time-out is no duration.
    pub(crate) fn of(config: &Config) -> Outcome<Self> {
        let is_on = |key: &str| config.own(key).and_then(serde_json::Value::as_bool).unwrap_or_default();
        let given = |key: &str| config.own(key).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
        let timeout = given("timeout").map(text::seconds).transpose();
        let timeout = timeout.map_err(|why| {
            let origin = config.origin("timeout");
            Failure::new(crate::exit::Code::BadInput, "config-invalid", format!("`timeout`: {why} (at: {origin})"))
        })?;
        let verbose = config.own("verbose").and_then(serde_json::Value::as_u64).unwrap_or_default();
        Ok(Self {
            json: is_on("json"),
            quiet: is_on("quiet"),
            verbose: u8::try_from(verbose).unwrap_or(u8::MAX),
            no_color: is_on("no_color"),
            offline: is_on("offline"),
            timeout,
            password_file: given("password_file").map(PathBuf::from),
        })
    }
}

/// Reads the configuration from flags, environment and file.
///
/// # Errors
/// Where the file cannot be read or something in it is wrong.
pub(crate) fn load(global: &Global, path: &Path) -> Outcome<Config> {
    let mut sources = match fs::read_to_string(path) {
        Ok(text) => Sources::new().file(path, text),
        // Nobody has to have one; but a file that was named has to be there.
        Err(error) if error.kind() == io::ErrorKind::NotFound && global.config.is_none() => Sources::new(),
        Err(error) => return Err(Failure::input(format!("cannot read {}: {error}", path.display()))),
    };
    sources = sources.environment(std::env::vars_os().filter_map(|(name, value)| {
        // A variable that is no text is none of ours.
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        let value = if is_switch(&name) { on_or_off(value) } else { value };
        (!NO_SETTINGS.contains(&name.as_str()) && !name.starts_with(NODE)).then_some((name, value))
    }));
    for key in SWITCHES {
        sources = sources.own(key, false);
    }
    sources = sources.own("verbose", 0).own("timeout", "").own("password_file", "");
    Ok(Config::load(flags(sources, global))?)
}

fn flags(mut sources: Sources, global: &Global) -> Sources {
    let texts = [
        ("--mailbox", "mailbox", &global.mailbox),
        ("--backend", "backend", &global.backend),
        ("--timeout", "timeout", &global.timeout),
        ("--password-file", "password_file", &global.password_file),
    ];
    for (flag, key, value) in texts {
        if let Some(value) = value {
            sources = sources.flag(flag, key, value);
        }
    }
    let switches = [
        ("--json", "json", global.json),
        ("--quiet", "quiet", global.quiet),
        ("--no-color", "no_color", global.no_color),
        ("--offline", "offline", global.offline),
    ];
    for (flag, key, _) in switches.into_iter().filter(|(.., given)| *given) {
        sources = sources.flag(flag, key, "true");
    }
    if global.verbose > 0 {
        sources = sources.flag("--verbose", "verbose", global.verbose.to_string());
    }
    sources
}

fn is_switch(name: &str) -> bool {
    let key = name.strip_prefix("TALKBOX_").map(str::to_ascii_lowercase);
    key.is_some_and(|key| SWITCHES.contains(&key.as_str()))
}

/// What people write for on and off in a variable, as the configuration reads it; anything else it complains about.
fn on_or_off(value: String) -> String {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => "true".to_owned(),
        "" | "0" | "false" | "no" | "off" => "false".to_owned(),
        _ => value,
    }
}

/// Whether errors are to be told as JSON while the configuration is not read yet.
pub(crate) fn wants_json(flag: bool) -> bool {
    flag || std::env::var("TALKBOX_JSON").is_ok_and(|value| on_or_off(value) == "true")
}
