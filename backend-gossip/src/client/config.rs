//! The settings, as they stand under `[backends.gossip]`.

use std::{collections::BTreeSet, time::Duration};

use talkbox_core::{Error, ErrorKind, Result};

use super::node_url::NodeUrl;

/// Most nodes: each gets every envelope, and more than a mesh has is a mistake.
const MAX_NODES: usize = 32;
/// The least and the most that a node can be given for an answer, in milliseconds.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 50..=600_000;

/// Every key, so that a misspelt one can be corrected.
pub(super) const KEYS: &[&str] = &["nodes", "timeout_ms"];

/// The settings of this backend.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GossipConfig {
    /// The nodes, `https://…` or `http://…`, in order of preference.
    nodes: Vec<String>,
    /// How long a node may take to connect, and for each answer, in milliseconds.
    timeout_ms: u64,
}

impl Default for GossipConfig {
    fn default() -> Self {
        Self { nodes: Vec::new(), timeout_ms: 10_000 }
    }
}

impl GossipConfig {
    /// The nodes, each once.
    ///
    /// # Errors
    /// `ConfigInvalid`.
    pub(super) fn nodes(&self) -> Result<Vec<NodeUrl>> {
        if self.nodes.len() > MAX_NODES {
            return Err(Error::new(ErrorKind::ConfigInvalid, "more than 32 nodes").with("given", self.nodes.len()));
        }
        let mut known = BTreeSet::new();
        let mut nodes = Vec::new();
        for text in &self.nodes {
            let node = NodeUrl::parse(text).map_err(|error| {
                Error::new(ErrorKind::ConfigInvalid, error.message().to_owned()).with("nodes", text)
            })?;
            if known.insert(node.clone()) {
                nodes.push(node);
            }
        }
        Ok(nodes)
    }

    /// Checks what the type does not.
    ///
    /// # Errors
    /// `ConfigInvalid`.
    pub(super) fn check(&self) -> Result<()> {
        if !TIMEOUT_MS.contains(&self.timeout_ms) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a time-out is between 50 ms and 10 minutes")
                .with("timeout_ms", self.timeout_ms));
        }
        self.nodes().map(drop)
    }

    /// How long a node may take.
    pub(super) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use talkbox_core::BackendConfig;

    use super::*;

    fn read(value: serde_json::Value) -> Result<GossipConfig> {
        let serde_json::Value::Object(table) = value else { panic!("a table") };
        let config: GossipConfig = BackendConfig::new(table).read()?;
        config.check().map(|()| config)
    }

    #[test]
    fn a_node_named_twice_is_one() {
        let config =
            read(json!({ "nodes": ["https://a.example", "https://A.example/", "http://b.example"] })).expect("valid");
        let nodes: Vec<_> = config.nodes().expect("valid").iter().map(ToString::to_string).collect();
        assert_eq!(nodes, ["https://a.example", "http://b.example"]);
        assert_eq!(read(json!({})).expect("valid"), GossipConfig::default());
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        for (bad, named) in [
            (json!({ "nodes": ["wss://a.example"] }), "wss://a.example"),
            (json!({ "node": [] }), "node"),
            (json!({ "timeout_ms": 1 }), "timeout_ms"),
            (json!({ "nodes": vec!["https://a.example"; 33] }), "33"),
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
