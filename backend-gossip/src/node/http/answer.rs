//! Answers, counted as long as they wait to be written; and long ones in parts. The next part is read when the one before
//! has gone out, but for what the connection holds: a client that does not read costs one part, and not its whole answer.

use std::{io, sync::Arc};

use axum::{
    body::{Body, Bytes, HttpBody as _, to_bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, future::ready, stream};
use talkbox_core::envelope::MAX_ENVELOPE_BYTES;

use crate::node::{
    Shared,
    addresses::Party,
    refusal::{Reason, Refusal},
    shares::{Claim, Full},
};

/// Bytes that each party may have waiting in any case: an envelope of the largest size, and what stands around it. With a
/// party for each of 4,096 connections it is 260 MiB.
pub(crate) const ALWAYS: usize = MAX_ENVELOPE_BYTES + 1_024;
/// Bytes after which a part ends: as for a subscription over a WebSocket, some hundred usual envelopes, so that to wait for
/// a turn at the store costs little beside reading them.
const PART: usize = 131_072;
/// An answer of no more is not counted: a connection has more than that without any.
const SMALL: usize = 4_096;

/// An answer that is read part by part.
pub(super) trait InParts: Send + 'static {
    /// Reads on until there are so many bytes, or one item if that is larger.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn next(&mut self, bytes: usize) -> impl Future<Output = Result<Part, Refusal>> + Send;
}

/// A part of an answer.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) text: String,
    pub(super) is_last: bool,
}

/// In the extensions of an answer that is not to be counted, or that is already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uncounted;

/// Answers in parts. What goes wrong in the first is told as a problem; later it breaks the answer off, which its receiver
/// notices by its form.
///
/// # Errors
/// Those of the first part; `RateLimited` where too many answers wait.
pub(super) async fn in_parts(
    node: &Shared,
    party: Party,
    kind: HeaderValue,
    mut parts: impl InParts,
) -> Result<Response, Refusal> {
    let (claim, bytes) = match node.answers.claim(party, PART + ALWAYS) {
        Ok(claim) => (claim, PART),
        // One item at a time still fits into what everybody has.
        Err(_) => (node.answers.claim(party, ALWAYS).map_err(full)?, 1),
    };
    let claim = Arc::new(claim);
    let first = parts.next(bytes).await?;
    let (chunk, is_last) = (counted(first.text, &claim), first.is_last);
    let body = if is_last {
        Body::from(chunk)
    } else {
        let rest = stream::try_unfold((parts, claim, false), move |(mut parts, claim, is_over)| async move {
            if is_over {
                return Ok(None);
            }
            let part = parts.next(bytes).await.map_err(|refusal| io::Error::other(refusal.to_string()))?;
            Ok(Some((counted(part.text, &claim), (parts, claim, part.is_last))))
        });
        Body::from_stream(stream::once(ready(Ok::<_, io::Error>(chunk))).chain(rest))
    };
    let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
    response.extensions_mut().insert(Uncounted);
    Ok(response)
}

/// Room for an answer to what is about to be done: better refused before than after it.
///
/// # Errors
/// `RateLimited` where too many answers wait.
pub(super) fn reserve(node: &Shared, party: Party, bytes: usize) -> Result<Claim, Refusal> {
    node.answers.claim(party, bytes).map_err(full)
}

/// An answer for which there is room.
pub(super) fn reserved(kind: HeaderValue, text: String, room: Claim) -> Response {
    let mut response = ([(header::CONTENT_TYPE, kind)], Body::from(counted(text, &Arc::new(room)))).into_response();
    response.extensions_mut().insert(Uncounted);
    response
}

/// Counts an answer that is there as a whole. One for which there is no room is not given.
pub(super) async fn count(node: &Shared, party: Party, response: Response) -> Response {
    let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
    if size <= SMALL || response.extensions().get::<Uncounted>().is_some() {
        return response;
    }
    let claim = match node.answers.claim(party, size) {
        Ok(claim) => Arc::new(claim),
        Err(why) => return full(why).into_response(),
    };
    let (parts, body) = response.into_parts();
    match to_bytes(body, size).await {
        Ok(bytes) => Response::from_parts(parts, Body::from(counted(bytes, &claim))),
        Err(_) => Refusal::new(Reason::Failed, "the answer could not be read").into_response(),
    }
}

/// Bytes that hold on to the claim until the connection has written them.
fn counted(bytes: impl AsRef<[u8]> + Send + 'static, claim: &Arc<Claim>) -> Bytes {
    Bytes::from_owner(Counted { bytes, _claim: Arc::clone(claim) })
}

struct Counted<B> {
    bytes: B,
    _claim: Arc<Claim>,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Counted<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

fn full(full: Full) -> Refusal {
    Refusal::new(
        Reason::RateLimited,
        match full {
            Full::Party => "this address has as many answers waiting as it may; read them first",
            Full::Node => "the node has as many answers waiting as it can; try again later",
        },
    )
}
