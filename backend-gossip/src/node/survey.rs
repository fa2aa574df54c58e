//! What a node says of itself and its peers, asked from outside: for an operator, who need not be where the node is.

use std::{sync::Arc, time::Duration};

use talkbox_core::{Error, ErrorKind, Result};
use talkbox_net::{Bounds, Http, Limits, Network, Request, Trust};
use url::Url;

/// How long a node may take to answer.
const WITHIN: Duration = Duration::from_secs(10);
/// Most bytes of an answer: 64 peers, each with a fault of some lines, and 256 candidates.
const MAX_ANSWER: usize = 512 << 10;

/// What a node says of itself (`GET /v1/peers`).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct NodeState {
    /// Its key, in hexadecimal.
    pub key: String,
    /// The epoch of its store.
    pub epoch: String,
    /// How many ids count as held.
    pub events: u64,
    /// The fingerprint of all of them: equal for nodes that hold the same.
    pub fingerprint: String,
    /// Its peers.
    pub peers: Vec<PeerState>,
    /// Nodes that might become its peers.
    #[serde(default)]
    pub candidates: Vec<CandidateState>,
}

/// What it says of a node that might become a peer. A candidate has no right.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct CandidateState {
    /// Where it is.
    pub url: String,
    /// The key that it answers by, in hexadecimal.
    pub key: String,
    /// Who named it: a registry, a peer or a relay.
    pub source: String,
    /// When it last answered, in seconds.
    pub seen: u64,
}

/// What it says of a peer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct PeerState {
    /// Where the peer is.
    pub url: String,
    /// The peer's key, once it is known.
    pub key: Option<String>,
    /// `ok`, `away`, `unmet` where nothing was tried yet, or `self` where it is the node that was asked.
    pub state: String,
    /// Why it is away; only where whoever asks may know.
    pub fault: Option<String>,
    /// When it last answered, in seconds.
    pub seen: Option<u64>,
    /// When all that both hold was last compared, in seconds.
    pub compared: Option<u64>,
    /// What the peer held and the node did not, at that time.
    pub missing_here: u64,
    /// What the node held and the peer did not.
    pub missing_there: u64,
    /// How far the peer is behind in the node's order of arrival.
    pub behind: u64,
}

/// Asks the node at this URL (`https://`, `http://`, `wss://` or `ws://`).
///
/// # Errors
/// `InvalidInput` for what is no URL; `Unreachable`, `Timeout`; `Refused` where something else than a node answers.
pub async fn survey(url: &str) -> Result<NodeState> {
    let http = Http::new("node", Arc::new(Network::new(WITHIN, None)), Bounds::default());
    let state = ask(&http, url).await;
    http.close().await;
    state
}

async fn ask(http: &Http, url: &str) -> Result<NodeState> {
    let invalid = || Error::new(ErrorKind::InvalidInput, "that is no URL of a node").with("url", url);
    // The relay and the rest are on one port: either name of it will do.
    let text = url.trim_end_matches('/').replacen("ws", "http", usize::from(url.starts_with("ws")));
    let route: Url = format!("{text}/v1/peers").parse().map_err(|_| invalid())?;
    let limits = Limits { max_response_bytes: MAX_ANSWER, deadline: WITHIN };
    let answer = http.request(Request::get(route, Trust::Configured), limits).await?;
    let strange = || Error::new(ErrorKind::Refused, "what answers there is no node with peers").with("node", url);
    if !answer.status.is_success() {
        return Err(strange().with("status", answer.status.as_u16()));
    }
    serde_json::from_slice(&answer.body).map_err(|error| strange().source(error))
}
