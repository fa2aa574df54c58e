//! The settings, as they stand under `[backends.nostr]`.

use std::{collections::BTreeSet, time::Duration};

use talkbox_core::{Error, ErrorKind, Result};

use crate::relay_url::RelayUrl;

/// Most relays: each gets every envelope, and NIP-17 advises three.
const MAX_RELAYS: usize = 32;
/// The least and the most that a relay can be given for an answer, in milliseconds.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 50..=600_000;

/// Every key, so that a misspelt one can be corrected.
pub(crate) const KEYS: &[&str] = &["relays", "timeout_ms"];

/// The settings of this backend.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NostrConfig {
    /// The relays, `wss://…` or `ws://…`, in order of preference.
    relays: Vec<String>,
    /// How long a relay may take to connect, and for each answer, in milliseconds.
    timeout_ms: u64,
}

impl Default for NostrConfig {
    fn default() -> Self {
        Self { relays: Vec::new(), timeout_ms: 10_000 }
    }
}

impl NostrConfig {
    /// The relays, each once.
    ///
    /// # Errors
    /// `ConfigInvalid`.
    pub(crate) fn relays(&self) -> Result<Vec<RelayUrl>> {
        if self.relays.len() > MAX_RELAYS {
            return Err(Error::new(ErrorKind::ConfigInvalid, "more than 32 relays").with("given", self.relays.len()));
        }
        let mut known = BTreeSet::new();
        let mut relays = Vec::new();
        for text in &self.relays {
            let relay = RelayUrl::parse(text).map_err(|error| {
                Error::new(ErrorKind::ConfigInvalid, error.message().to_owned()).with("relays", text)
            })?;
            if known.insert(relay.clone()) {
                relays.push(relay);
            }
        }
        Ok(relays)
    }

    /// Checks what the type does not.
    ///
    /// # Errors
    /// `ConfigInvalid`.
    pub(crate) fn check(&self) -> Result<()> {
        if !TIMEOUT_MS.contains(&self.timeout_ms) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a time-out is between 50 ms and 10 minutes")
                .with("timeout_ms", self.timeout_ms));
        }
        self.relays().map(drop)
    }

    /// How long a relay may take.
    pub(crate) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use talkbox_core::BackendConfig;

    use super::*;

    fn read(value: serde_json::Value) -> Result<NostrConfig> {
        let serde_json::Value::Object(table) = value else { panic!("a table") };
        let config: NostrConfig = BackendConfig::new(table).read()?;
        config.check().map(|()| config)
    }

    #[test]
    fn a_relay_named_twice_is_one() {
        let config =
            read(json!({ "relays": ["wss://a.example", "wss://A.example/", "ws://b.example"] })).expect("valid");
        let relays: Vec<_> = config.relays().expect("valid").iter().map(ToString::to_string).collect();
        assert_eq!(relays, ["wss://a.example", "ws://b.example"]);
        assert_eq!(read(json!({})).expect("valid"), NostrConfig::default());
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        for (bad, named) in [
            (json!({ "relays": ["https://a.example"] }), "https://a.example"),
            (json!({ "relay": [] }), "relay"),
            (json!({ "timeout_ms": 1 }), "timeout_ms"),
            (json!({ "relays": vec!["wss://a.example"; 33] }), "33"),
        ] {
            let error = read(bad).expect_err(named);
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn every_key_is_named() {
        for key in KEYS {
            let error = read(json!({ *key: { "not": "this" } })).expect_err(key);
            assert!(!error.to_string().contains("unknown field"), "{error}");
        }
    }
}
