//! The settings, as they stand under `[backends.ipfs]`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use talkbox_core::{Error, ErrorKind, Result};

use crate::{
    node::{
        address::PeerAddress,
        settings::{Dht, PUBLIC_DHT},
    },
    pinning::{PinSettings, Service, read_pins, services},
};

/// Most peers: each gets every envelope, and more than a mailbox needs is a mistake.
const MAX_PEERS: usize = 32;
/// The least and the most that a peer can be given for an answer, in milliseconds.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 50..=600_000;

/// Every key, so that a misspelt one can be corrected.
pub(super) const KEYS: &[&str] = &["peers", "bootstrap", "dht", "dht_protocol", "pins", "timeout_ms"];
/// Those that hold a list, besides the one that a URI gives.
pub(super) const LIST_KEYS: &[&str] = &["bootstrap"];

/// The settings of this backend.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IpfsConfig {
    /// The peers that hold mailboxes, `/ip4/…/tcp/…/p2p/…`, in order of preference.
    peers: Vec<String>,
    /// Where the DHT begins.
    bootstrap: Vec<String>,
    /// The part in the DHT.
    pub(super) dht: Dht,
    /// Which DHT.
    pub(super) dht_protocol: String,
    /// The services that pin what is kept here, each with the file of its token.
    #[serde(deserialize_with = "read_pins")]
    pub(super) pins: Vec<PinSettings>,
    /// How long a peer may take to connect, and for each answer, in milliseconds.
    timeout_ms: u64,
}

impl Default for IpfsConfig {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            bootstrap: Vec::new(),
            dht: Dht::default(),
            dht_protocol: PUBLIC_DHT.to_owned(),
            pins: Vec::new(),
            timeout_ms: 10_000,
        }
    }
}

impl IpfsConfig {
    /// Checks what the types do not.
    ///
    /// # Errors
    /// `ConfigInvalid`.
    pub(super) fn check(&self) -> Result<()> {
        if !TIMEOUT_MS.contains(&self.timeout_ms) {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a time-out is between 50 ms and 10 minutes")
                .with("timeout_ms", self.timeout_ms));
        }
        self.pins()?;
        self.peers()?;
        self.bootstrap().map(drop)
    }

    /// The holders, each once.
    ///
    /// # Errors
    /// `ConfigInvalid`, also where one peer is named at two addresses: it would count as two holders.
    pub(super) fn peers(&self) -> Result<Vec<PeerAddress>> {
        let peers = addresses("peers", &self.peers)?;
        let mut known = BTreeMap::new();
        for peer in &peers {
            if let Some(other) = known.insert(peer.peer, peer) {
                let why = "two addresses of one peer, which is one machine and counts once: name one of them";
                return Err(Error::new(ErrorKind::ConfigInvalid, why).with("peers", format!("{other} and {peer}")));
            }
        }
        Ok(peers)
    }

    /// The pinning services.
    ///
    /// # Errors
    /// `ConfigInvalid`.
    pub(super) fn pins(&self) -> Result<Vec<Service>> {
        services(&self.pins)
    }

    /// Where the DHT begins, each once.
    ///
    /// # Errors
    /// `ConfigInvalid`.
    pub(super) fn bootstrap(&self) -> Result<Vec<PeerAddress>> {
        addresses("bootstrap", &self.bootstrap)
    }

    /// How long a peer may take.
    pub(super) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

fn addresses(key: &'static str, texts: &[String]) -> Result<Vec<PeerAddress>> {
    if texts.len() > MAX_PEERS {
        return Err(Error::new(ErrorKind::ConfigInvalid, "more than 32 peers").with(key, texts.len()));
    }
    let mut known = BTreeSet::new();
    let mut peers = Vec::new();
    for text in texts {
        let peer: PeerAddress = text
            .parse()
            .map_err(|error: Error| Error::new(ErrorKind::ConfigInvalid, error.message().to_owned()).with(key, text))?;
        // A locator has at most 256 bytes, and it is what a holder is named by.
        peer.locator()
            .map_err(|error| Error::new(ErrorKind::ConfigInvalid, error.message().to_owned()).with(key, text))?;
        if known.insert(peer.clone()) {
            peers.push(peer);
        }
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use talkbox_core::BackendConfig;

    use super::*;

    const ID: &str = "16Uiu2HAm3aBGq5sdGKKmyHYVJWrJUvqLoC1HbmoaQEUTBJ2bHP8u";

    fn read(value: serde_json::Value) -> Result<IpfsConfig> {
        let serde_json::Value::Object(table) = value else { panic!("a table") };
        let config: IpfsConfig = BackendConfig::new(table).read()?;
        config.check().map(|()| config)
    }

    #[test]
    fn a_peer_named_twice_is_one() {
        let one = format!("/ip4/192.0.2.1/tcp/1/p2p/{ID}");
        let config = read(json!({ "peers": [one, one], "dht": "server" })).expect("valid");
        let peers: Vec<_> = config.peers().expect("valid").iter().map(ToString::to_string).collect();
        assert_eq!((peers, config.dht), (vec![one], Dht::Server));
        assert_eq!(read(json!({})).expect("valid"), IpfsConfig::default());
    }

    /// Otherwise one machine would give two acks.
    #[test]
    fn a_peer_at_two_addresses_is_refused_with_both() {
        let (one, other) = (format!("/ip4/192.0.2.1/tcp/1/p2p/{ID}"), format!("/dns4/a.example/tcp/1/ws/p2p/{ID}"));
        let error = read(json!({ "peers": [one, other] })).expect_err("one machine");
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        let told = error.to_string();
        assert!(told.contains(&one) && told.contains(&other) && told.contains("name one of them"), "{told}");
        read(json!({ "bootstrap": [one, other] })).expect("more than one way into the DHT");
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        let good = format!("/ip4/192.0.2.1/tcp/1/p2p/{ID}");
        let tls = format!("/dns4/a.example/tcp/443/tls/ws/p2p/{ID}");
        for (bad, named) in [
            (json!({ "peers": ["/ip4/192.0.2.1/tcp/1"] }), "/ip4/192.0.2.1/tcp/1"),
            (json!({ "bootstrap": ["node.example"] }), "node.example"),
            (json!({ "peers": [tls] }), "tls/ws"),
            (json!({ "bootstrap": [tls] }), "/udp/PORT/quic-v1"),
            (json!({ "peer": [] }), "peer"),
            (json!({ "dht": "on" }), "dht"),
            (json!({ "timeout_ms": 1 }), "timeout_ms"),
            (json!({ "peers": vec![good; 33] }), "33"),
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
