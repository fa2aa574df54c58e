//! The body of a request: read within a size and a time, and counted while it is held.

use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt as _;
use talkbox_core::EventId;
use tokio::time::timeout;

use crate::node::{
    Shared,
    addresses::Party,
    refusal::{Reason, Refusal},
    shares::{Claim, Full},
};

/// Most ids that a request names.
pub(super) const MAX_IDS: usize = 256;
/// Bytes of a request that names so many: 67 each.
pub(super) const IDS_BYTES: usize = 20_000;

/// A body, and the claim on the room for it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    _claim: Claim,
}

/// Reads a body of at most so many bytes.
///
/// # Errors
/// `TooLarge`, `RateLimited` where others fill the room, `Malformed` where it breaks off or does not come in time.
pub(super) async fn read(node: &Shared, party: Party, body: Body, most: usize) -> Result<Held, Refusal> {
    let within = Duration::from_secs(node.config.limits.body_timeout);
    let read = async {
        let mut claim = node.bodies.claim(party, 0).map_err(full)?;
        let (mut bytes, mut chunks) = (Vec::new(), body.into_data_stream());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Refusal::malformed("the body breaks off"))?;
            if bytes.len() + chunk.len() > most {
                return Err(Refusal::new(Reason::TooLarge, format!("the body is larger than {most} bytes")));
            }
            claim.grow(chunk.len()).map_err(full)?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(Held { bytes, _claim: claim })
    };
    timeout(within, read).await.map_err(|_| Refusal::malformed("the body did not come in time"))?
}

/// Reads `{"ids": [...]}`.
///
/// # Errors
/// `Malformed`, `TooLarge`.
pub(super) fn ids(bytes: &[u8]) -> Result<Vec<EventId>, Refusal> {
    #[derive(serde::Deserialize)]
    struct Ids {
        ids: Vec<String>,
    }
    let Ids { ids } =
        serde_json::from_slice(bytes).map_err(|_| Refusal::malformed("an object with a list of `ids` is expected"))?;
    if ids.len() > MAX_IDS {
        return Err(Refusal::new(Reason::TooLarge, format!("more than {MAX_IDS} ids")));
    }
    ids.iter()
        .map(|id| talkbox_core::hex::decode_lower(id).map(EventId::from_bytes))
        .collect::<Option<_>>()
        .ok_or_else(|| Refusal::malformed("an id is 64 lower-case hexadecimal digits"))
}

fn full(full: Full) -> Refusal {
    Refusal::new(
        Reason::RateLimited,
        match full {
            Full::Party => "this address sends as much at once as it may",
            Full::Node => "the node is taking in as much as it can",
        },
    )
}
