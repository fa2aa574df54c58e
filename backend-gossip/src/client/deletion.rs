//! Deleting: the request goes to every node, and then each is asked whether it still has any of it.

use futures_util::{StreamExt as _, future::join_all, stream};
use talkbox_core::{DeleteRequest, Deletion, DeletionState, ErrorKind, Receipt, Refusal, Result};

use super::{
    ask::{Asker, Proof, Question},
    custody::{Said, have},
    records::taken,
    refused::Refused,
};

/// Requests on their way at once: a few keep a node busy, and leave it to others.
const WINDOW: usize = 4;

/// One answer for each request, in order.
pub(super) async fn delete(nodes: &[Result<Asker, Refusal>], requests: &[DeleteRequest]) -> Vec<Result<Deletion>> {
    let deletions: Vec<_> = requests.iter().map(|request| delete_one(nodes, request)).collect();
    stream::iter(deletions).buffered(WINDOW).collect().await
}

async fn delete_one(nodes: &[Result<Asker, Refusal>], request: &DeleteRequest) -> Result<Deletion> {
    let answers = join_all(nodes.iter().map(|node| async move {
        let asker = node.as_ref().map_err(Refusal::clone)?;
        let refusal = |error| Refused::by(&error).at(&asker.node.holder);
        let state = ask_to_delete(asker, request).await.map_err(refusal)?;
        Ok::<_, Refusal>((asker.node.holder.clone(), state))
    }));
    let mut deletion = Deletion::default();
    for answer in answers.await {
        match answer {
            Ok(holder) => deletion.holders.push(holder),
            Err(refusal) => deletion.refused.push(refusal),
        }
    }
    if deletion.holders.is_empty() {
        // The same choice of the most telling refusal as for a receipt.
        return Receipt { refused: deletion.refused, ..Receipt::default() }.settle().map(|_| Deletion::default());
    }
    Ok(deletion)
}

async fn ask_to_delete(asker: &Asker, request: &DeleteRequest) -> Result<DeletionState> {
    let question = Question::post("/v1/deletions", "application/json", request.event().to_json());
    let answer = asker.ask(&question, Proof::WhereAsked, 0).await?;
    taken(asker, &answer.body, request.event().id())?;
    let is_gone = match have(asker, request.ids()).await {
        Ok(statement) => statement.said.iter().all(|said| *said == Said::NotHeld),
        Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
        Err(error) => {
            tracing::debug!(node = %asker.node.url, %error, "the node does not say whether it is gone");
            false
        }
    };
    Ok(if is_gone { DeletionState::Confirmed } else { DeletionState::Requested })
}
