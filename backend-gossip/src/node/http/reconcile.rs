//! `POST /v1/reconcile`: one message of negentropy v1 in, one out. The node needs nothing from one to the next; what it keeps
//! of a large mailbox only saves it reading it again.
//!
//! An owner reconciles its mailbox, a keeper the one that it names in the query, and a peer everything: `?set=whole`.

use std::sync::Arc;

use axum::{
    extract::{Extension, Request, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use talkbox_core::{
    MailboxId,
    anti_entropy::{FrameLimit, respond},
};

use super::{answer::Uncounted, body, caller, envelopes::caller_of, query::Query, sets};
use crate::node::{
    Shared,
    context::Work,
    refusal::{Reason, Refusal},
    server::Connection,
};

/// Most bytes of a message, both ways: some 4,000 ids, or the fingerprints of as many ranges.
pub(crate) const MAX_MESSAGE: usize = 131_072;
const FRAME: FrameLimit = match FrameLimit::at_most(MAX_MESSAGE) {
    Some(limit) => limit,
    None => FrameLimit::NONE,
};

pub(super) async fn reconcile(
    State(node): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, sent) = request.into_parts();
    let party = connection.pass.party();
    let message = body::read(&node, party, sent, MAX_MESSAGE).await?;
    let caller = caller_of(&node, &parts, &message.bytes).await?;
    let query = Query::parse(parts.uri.query())?;
    let is_peer = caller.is_some_and(|key| node.is_peer(&key));
    let answer = match caller {
        Some(_) if query.whole && is_peer => whole(&node, message).await?,
        // Its own mailbox in place of everything would look to a node as if this one held nothing.
        Some(_) if query.whole => return Err(Refusal::new(Reason::Forbidden, "the whole set is for peers")),
        Some(key) => {
            let mailbox = query.mailbox.unwrap_or_else(|| MailboxId::from(key));
            caller::may_read(&node, caller, mailbox, party).await?;
            let set = sets::mail_of(&node, mailbox, party).await?;
            respond(&*set, &message.bytes, FRAME).map_err(|error| Refusal::from_core(&error))?
        }
        None => return Err(Refusal::new(Reason::AuthRequired, "who reconciles says as whom")),
    };
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let mut response = ([kind], answer).into_response();
    if is_peer {
        // Peers are few, and what clients fill must not part them.
        response.extensions_mut().insert(Uncounted);
    }
    Ok(response)
}

/// Answers from the set of the node. A usual message takes microseconds and the worst some milliseconds, for which the
/// writer has to wait: so it is answered on a thread that may block.
async fn whole(node: &Arc<Shared>, message: body::Held) -> Result<Vec<u8>, Refusal> {
    let answer = {
        let node = Arc::clone(node);
        move || respond(&*node.store.held(), &message.bytes, FRAME).map_err(|error| Refusal::from_core(&error))
    };
    match node.context.work() {
        Work::Inline => answer(),
        Work::Threads => tokio::task::spawn_blocking(answer)
            .await
            .map_err(|_| Refusal::new(Reason::Failed, "the reconciliation failed"))?,
    }
}
