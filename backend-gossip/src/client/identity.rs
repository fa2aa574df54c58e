//! The key of a node: what it shows of itself (NIP-11, `self`), fetched once and then kept. A receipt by another key is
//! none, also where the node shows that one later.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use talkbox_core::{PublicKey, Result, hex};
use talkbox_net::{HeaderValue, Limits, Response, header};
use tokio::time::Instant;

use super::{
    ask::{Asker, Question},
    node_url::NodeUrl,
};

/// Bytes of the document: ordinary ones have one or two thousand.
const MAX_DOCUMENT: usize = 64 * 1024;
/// How long the document may take: without it receipts do not count, and nothing else is missing.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a node without a key is not asked for it again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Most nodes whose keys are kept: those of one's own, and what others' records name.
const MAX_KNOWN: usize = 512;

/// The keys of all nodes that were asked.
#[derive(Debug, Default)]
pub(super) struct Identities(Mutex<HashMap<NodeUrl, Identity>>);

#[derive(Clone, Copy, Debug)]
enum Identity {
    Key(PublicKey),
    /// It showed none, and is not asked before this.
    Unknown(Instant),
}

impl Identities {
    /// The key of a node; `None` where it shows none.
    pub(super) async fn of(&self, asker: &Asker) -> Option<PublicKey> {
        match self.lock().get(&asker.node.url) {
            Some(Identity::Key(key)) => return Some(*key),
            Some(Identity::Unknown(until)) if *until > Instant::now() => return None,
            _ => {}
        }
        let found = fetch(asker).await;
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN && !known.contains_key(&asker.node.url) {
            // Those of others are found out again; one's own are kept for good.
            known.retain(|url, _| asker.network.is_configured(url));
        }
        let fresh = match found {
            Some(key) => Identity::Key(key),
            None => Identity::Unknown(Instant::now() + ASK_AGAIN),
        };
        let kept = known.entry(asker.node.url.clone()).or_insert(fresh);
        // Of two that asked at once the first one's answer stays.
        if matches!(kept, Identity::Unknown(_)) {
            *kept = fresh;
        }
        match kept {
            Identity::Key(key) => Some(*key),
            Identity::Unknown(_) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeUrl, Identity>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(asker: &Asker) -> Option<PublicKey> {
    #[derive(serde::Deserialize)]
    struct Document {
        #[serde(rename = "self")]
        key: String,
    }
    let document = document(asker).await.ok().filter(|answer| answer.status.is_success());
    let document: Option<Document> = document.and_then(|answer| serde_json::from_slice(&answer.body).ok());
    let key = document.and_then(|document| hex::decode_lower(&document.key)).map(PublicKey::from_bytes);
    if key.is_none() {
        tracing::debug!(node = %asker.node.url, "the node does not show its key");
    }
    key
}

/// Whether it comes says nothing of whether the node is away: something else may answer for it here.
async fn document(asker: &Asker) -> Result<Response> {
    let question = Question::get("/").header(header::ACCEPT, HeaderValue::from_static("application/nostr+json"));
    let limits = Limits { max_response_bytes: MAX_DOCUMENT, deadline: asker.network.timeout.min(PATIENCE) };
    asker.network.http.request(asker.request(&question, false).await?, limits).await
}
