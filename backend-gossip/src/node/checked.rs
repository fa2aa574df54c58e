//! Settings that cannot work, refused before a node starts with them: each with its name, what it is, and what it has to be.

use std::fmt::Display;

use talkbox_core::{Error, ErrorKind, Result, envelope::MAX_ENVELOPE_BYTES};

use super::config::{Limits, NodeConfig};

/// The largest event with what is around it as a message: with less than this it could never arrive.
const LARGEST_MESSAGE: usize = MAX_ENVELOPE_BYTES + 1_024;
/// A century in seconds: more is a slip of the hand, and sums of it with the time stay far from the end of the numbers.
const CENTURY: u64 = 100 * 366 * 86_400;

/// Checks what no part of the node checks where it reads it.
///
/// # Errors
/// `ConfigInvalid`, with the setting under its name.
pub(super) fn check(config: &NodeConfig) -> Result<()> {
    for (name, seconds) in [
        ("discover_interval", config.discover_interval),
        ("sync_interval", config.sync_interval),
        ("scrub_interval", config.scrub_interval),
    ] {
        within(name, seconds, 1, CENTURY)?;
    }
    if let Some(control) = config.name.chars().find(|character| character.is_control()) {
        return Err(invalid("name", config.name.escape_debug(), format!("has the control character {control:?}")));
    }
    limits(&config.limits)
}

fn limits(limits: &Limits) -> Result<()> {
    for (name, seconds) in [
        ("head_timeout", limits.head_timeout),
        ("body_timeout", limits.body_timeout),
        ("ping_interval", limits.ping_interval),
        ("idle_timeout", limits.idle_timeout),
        ("write_timeout", limits.write_timeout),
        ("query_timeout", limits.query_timeout),
        ("burst_seconds", limits.burst_seconds.into()),
    ] {
        within(name, seconds, 1, CENTURY)?;
    }
    if limits.idle_timeout < limits.ping_interval {
        let why = format!(
            "is less than ping_interval ({}): a client that only answers would be cut off",
            limits.ping_interval
        );
        return Err(invalid("idle_timeout", limits.idle_timeout, why));
    }
    for (name, number) in [
        ("max_subscriptions", limits.max_subscriptions),
        ("max_filters", limits.max_filters),
        ("max_values", limits.max_values),
        ("max_limit", limits.max_limit),
        ("max_reconciliations", limits.max_reconciliations),
        ("max_reconciled", limits.max_reconciled),
        ("max_connections", limits.max_connections),
        ("max_connections_per_address", limits.max_connections_per_address),
    ] {
        within(name, number, 1, usize::MAX)?;
    }
    for (name, bytes) in
        [("max_message_bytes", limits.max_message_bytes), ("max_pending_bytes", limits.max_pending_bytes)]
    {
        within(name, bytes, LARGEST_MESSAGE, usize::MAX)?;
    }
    within("max_mailbox_events", limits.max_mailbox_events, 1, u64::MAX)?;
    within("max_mailbox_bytes", limits.max_mailbox_bytes, LARGEST_MESSAGE as u64, u64::MAX)
}

fn within<T: PartialOrd + Display + Copy>(name: &'static str, given: T, least: T, most: T) -> Result<()> {
    if given < least {
        return Err(invalid(name, given, format!("has to be at least {least}")));
    }
    if given > most {
        return Err(invalid(name, given, format!("has to be at most {most}")));
    }
    Ok(())
}

fn invalid(name: &'static str, given: impl Display, why: impl Display) -> Error {
    Error::new(ErrorKind::ConfigInvalid, format!("the setting {name} {why}")).with(name, given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut NodeConfig)) -> String {
        let mut config = NodeConfig::default();
        change(&mut config);
        let error = check(&config).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        error.to_string()
    }

    #[test]
    fn what_works_passes() {
        assert_eq!(check(&NodeConfig::default()).map_err(|error| error.to_string()), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        type Change = fn(&mut NodeConfig);
        let changes: [(&str, Change); 21] = [
            ("discover_interval", |config| config.discover_interval = 0),
            ("sync_interval", |config| config.sync_interval = 0),
            ("scrub_interval", |config| config.scrub_interval = u64::MAX),
            ("name", |config| config.name = "a\u{1b}[2J".to_owned()),
            ("head_timeout", |config| config.limits.head_timeout = 0),
            ("body_timeout", |config| config.limits.body_timeout = 0),
            ("ping_interval", |config| config.limits.ping_interval = 0),
            ("idle_timeout", |config| config.limits.idle_timeout = 29),
            ("write_timeout", |config| config.limits.write_timeout = 0),
            ("query_timeout", |config| config.limits.query_timeout = 0),
            ("burst_seconds", |config| config.limits.burst_seconds = 0),
            ("max_subscriptions", |config| config.limits.max_subscriptions = 0),
            ("max_filters", |config| config.limits.max_filters = 0),
            ("max_values", |config| config.limits.max_values = 0),
            ("max_limit", |config| config.limits.max_limit = 0),
            ("max_connections", |config| config.limits.max_connections = 0),
            ("max_connections_per_address", |config| config.limits.max_connections_per_address = 0),
            ("max_message_bytes", |config| config.limits.max_message_bytes = 1_000),
            ("max_pending_bytes", |config| config.limits.max_pending_bytes = 1_000),
            ("max_mailbox_events", |config| config.limits.max_mailbox_events = 0),
            ("max_mailbox_bytes", |config| config.limits.max_mailbox_bytes = 1_000),
        ];
        for (name, change) in changes {
            let words = refused(change);
            assert!(words.contains(&format!("the setting {name} ")), "{name}: {words}");
        }
    }
}
