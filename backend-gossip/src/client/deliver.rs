//! Bringing events to a node: in batches, each event with its own answer, and one receipt a batch.

use std::{collections::VecDeque, ops::Range};

use talkbox_core::{Error, ErrorKind, EventId, Level, Refusal, Timestamp, custody::MAX_RECEIPT_IDS};

use super::{
    ask::{Asker, Proof, Question},
    custody::{check, promised},
    refused::Refused,
};

/// Most events of one request: as many as one receipt names.
const MAX_BATCH: usize = MAX_RECEIPT_IDS;
/// Most bytes of one request, as nodes take them: 63 of the largest envelopes.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// Bytes of an answer about one event: a line of some 110 and the words of a refusal, and 75 in the receipt.
const PER_EVENT: usize = 1024;

/// An event, as it goes out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parcel<'a> {
    pub(super) id: EventId,
    pub(super) json: &'a str,
}

/// That a node has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) level: Level,
    /// Until when, where it signed that.
    pub(super) until: Option<Timestamp>,
}

/// One answer for each event, in order.
pub(super) async fn deliver(asker: &Asker, parcels: &[Parcel<'_>]) -> Vec<Result<Taken, Refusal>> {
    let mut answers: Vec<Option<Result<Taken, Refused>>> = vec![None; parcels.len()];
    let mut waiting: VecDeque<Range<usize>> = batches(parcels).into();
    while let Some(range) = waiting.pop_front() {
        match bring(asker, &parcels[range.clone()]).await {
            Ok(taken) => answers[range].iter_mut().zip(taken).for_each(|(answer, taken)| *answer = Some(taken)),
            // A proxy before the node may take less at once than the node does.
            Err(error) if error.kind() == ErrorKind::TooLarge && range.len() > 1 => {
                let middle = range.start + range.len() / 2;
                waiting.push_front(middle..range.end);
                waiting.push_front(range.start..middle);
            }
            Err(error) => {
                let refused = Refused::by(&error);
                answers[range].fill(Some(Err(refused.clone())));
                if is_away(&error) {
                    // What comes after it would wait in vain, too.
                    waiting.drain(..).for_each(|range| answers[range].fill(Some(Err(refused.clone()))));
                }
            }
        }
    }
    let unanswered = || Refused::by(&asker.nonsense("the node does not say what became of it"));
    let holder = &asker.node.holder;
    answers
        .into_iter()
        .map(|answer| answer.unwrap_or_else(|| Err(unanswered())).map_err(|refused| refused.at(holder)))
        .collect()
}

fn is_away(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unreachable | ErrorKind::Closed)
}

/// Which events go together.
fn batches(parcels: &[Parcel<'_>]) -> Vec<Range<usize>> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, parcel) in parcels.iter().enumerate() {
        let more = parcel.json.len() + 1;
        if at > start && (at - start >= MAX_BATCH || bytes + more > MAX_BATCH_BYTES) {
            batches.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += more;
    }
    if start < parcels.len() {
        batches.push(start..parcels.len());
    }
    batches
}

/// One batch.
async fn bring(asker: &Asker, parcels: &[Parcel<'_>]) -> Result<Vec<Result<Taken, Refused>>, Error> {
    let mut body = String::with_capacity(parcels.iter().map(|parcel| parcel.json.len() + 1).sum());
    for parcel in parcels {
        body.push_str(parcel.json);
        body.push('\n');
    }
    let question = Question::post("/v1/envelopes", "application/x-ndjson", body);
    let asked = asker.ask(&question, Proof::WhereAsked, parcels.len() * PER_EVENT);
    let (answer, key) = tokio::join!(asked, asker.network.identities.of(asker));
    let answer = answer?;
    let text = std::str::from_utf8(&answer.body)
        .map_err(|error| asker.nonsense("the node's answer is no text").source(error))?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let statuses: Vec<_> = parcels.iter().map(|parcel| status(asker, *parcel, lines.next())).collect();
    let receipt = lines.next().and_then(|json| check(asker, json, key));
    let promise = |(parcel, level): (&Parcel<'_>, Result<Level, Refused>)| {
        level.map(|level| Taken { level, until: promised(receipt.as_ref(), &parcel.id.into()) })
    };
    Ok(parcels.iter().zip(statuses).map(promise).collect())
}

/// What a line says of an event. It stands in the place of the event, and names it.
fn status(asker: &Asker, parcel: Parcel<'_>, line: Option<&str>) -> Result<Level, Refused> {
    #[derive(serde::Deserialize)]
    struct Status {
        id: Option<String>,
        status: String,
        #[serde(default)]
        code: String,
        #[serde(default)]
        detail: String,
    }
    let nonsense = || Refused::by(&asker.nonsense("the node's answer about this envelope makes no sense"));
    let status: Status = line.and_then(|line| serde_json::from_str(line).ok()).ok_or_else(nonsense)?;
    let is_named = status.id.as_ref().is_some_and(|id| *id == parcel.id.to_hex());
    match &*status.status {
        "stored" if is_named => Ok(Level::Stored),
        "duplicate" if is_named => Ok(Level::Duplicate),
        // What cannot be read has no id.
        "refused" if is_named || status.id.is_none() => Err(Refused::of(&status.code, &status.detail)),
        _ => Err(nonsense()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_by_number_and_bytes() {
        let large = "x".repeat(65_536);
        let of = |number: usize, json| {
            let batches = batches(&vec![Parcel { id: EventId::from_bytes([1; 32]), json }; number]);
            batches.into_iter().map(|range| (range.start, range.end)).collect::<Vec<_>>()
        };
        assert_eq!(of(0, "x"), []);
        assert_eq!(of(256, "x"), [(0, 256)]);
        assert_eq!(of(600, "x"), [(0, 256), (256, 512), (512, 600)]);
        assert_eq!(of(64, &large), [(0, 63), (63, 64)]);
        let huge = "x".repeat(MAX_BATCH_BYTES + 1);
        assert_eq!(of(2, &huge), [(0, 1), (1, 2)], "what is too large alone goes alone");
    }
}
