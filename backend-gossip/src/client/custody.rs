//! What a node says that it holds: `POST /v1/have`, and receipts that count only where they hold.

use talkbox_core::{
    EnvelopeId, Holding, HoldingState, PublicKey, Result, Timestamp,
    custody::{CustodyReceipt, MAX_RECEIPT_IDS},
};

use super::ask::{Asker, Proof, Question};

/// Bytes of an answer about one id: some 110 in its own item and 75 in the receipt.
const PER_ID: usize = 512;

/// What a node said of one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Held,
    NotHeld,
    Nothing,
}

/// What a node said of some ids, in order, and its receipt if that holds.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) said: Vec<Said>,
    pub(super) receipt: Option<CustodyReceipt>,
}

/// What a node holds of some ids. `Held` is what it signed: that something is held, without a receipt, could be said by
/// anybody, and whoever relied on it would stop looking for a better place. So that is `Unknown`.
///
/// # Errors
/// As [`Asker::ask`].
pub(super) async fn audit(asker: &Asker, ids: &[EnvelopeId]) -> Result<Vec<Holding>> {
    let mut holdings = Vec::with_capacity(ids.len());
    for ids in ids.chunks(MAX_RECEIPT_IDS) {
        let statement = have(asker, ids).await?;
        holdings.extend(ids.iter().zip(&statement.said).map(|(id, said)| {
            let state = match (said, promised(statement.receipt.as_ref(), id)) {
                (Said::Held, Some(until)) => HoldingState::Held { until: Some(until) },
                (Said::NotHeld, _) => HoldingState::Absent,
                (Said::Held | Said::Nothing, _) => HoldingState::Unknown,
            };
            Holding { id: *id, state }
        }));
    }
    Ok(holdings)
}

/// Asks what a node holds of at most 256 ids.
///
/// # Errors
/// As [`Asker::ask`].
pub(super) async fn have(asker: &Asker, ids: &[EnvelopeId]) -> Result<Statement> {
    #[derive(serde::Deserialize)]
    struct Answer<'a> {
        items: Vec<Item>,
        #[serde(borrow, default)]
        receipt: Option<&'a serde_json::value::RawValue>,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        id: String,
        held: bool,
    }
    let hex: Vec<String> = ids.iter().map(EnvelopeId::to_hex).collect();
    let body = serde_json::json!({ "ids": hex }).to_string();
    let question = Question::post("/v1/have", "application/json", body);
    let asked = asker.ask(&question, Proof::WhereAsked, ids.len() * PER_ID);
    let (answer, key) = tokio::join!(asked, asker.network.identities.of(asker));
    let answer = answer?;
    let answer: Answer<'_> = serde_json::from_slice(&answer.body)
        .map_err(|error| asker.nonsense("the node's answer about what it holds makes no sense").source(error))?;
    let said = (0..ids.len()).map(|at| match answer.items.get(at) {
        // An answer in another order would say of one envelope what is true of another.
        Some(item) if item.id == hex[at] => {
            if item.held {
                Said::Held
            } else {
                Said::NotHeld
            }
        }
        _ => Said::Nothing,
    });
    let receipt = answer.receipt.and_then(|json| check(asker, json.get(), key));
    Ok(Statement { said: said.collect(), receipt })
}

/// A receipt that holds: signed, of now, and by the key that this node showed.
pub(super) fn check(asker: &Asker, json: &str, key: Option<PublicKey>) -> Option<CustodyReceipt> {
    let node = &asker.node.url;
    let receipt = match CustodyReceipt::parse(json) {
        Ok(receipt) => receipt,
        Err(error) => {
            tracing::warn!(%node, %error, "the node's receipt does not hold");
            return None;
        }
    };
    if key != Some(receipt.node()) {
        tracing::warn!(%node, "the node's receipt is signed by another key than the one that it showed");
        return None;
    }
    if !receipt.is_current(asker.network.clock.now()) {
        tracing::warn!(%node, "the node's receipt is of another time than now");
        return None;
    }
    Some(receipt)
}

/// Until when an envelope is promised to be held.
pub(super) fn promised(receipt: Option<&CustodyReceipt>, id: &EnvelopeId) -> Option<Timestamp> {
    receipt.filter(|receipt| receipt.covers(id)).map(CustodyReceipt::until)
}
