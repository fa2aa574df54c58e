//! `/talkbox/have/1`: which envelopes a peer holds. Ids go out, a custody receipt comes back (`docs/formats.md` §7).

use std::{collections::HashSet, fmt::Debug};

use talkbox_core::{
    Clock, EnvelopeId, Error, ErrorKind, HoldingState, PublicKey, Result, SecretKey, Timestamp, async_trait,
    custody::{CustodyReceipt, MAX_RECEIPT_IDS},
};

use super::{
    channel::{Channel, Stream},
    frame::{nonsense, within},
    limits::Limits,
    pace::Paced,
};

/// Bytes of an id.
const ID: usize = 32;
/// Most bytes of a question.
const MAX_QUESTION: usize = MAX_RECEIPT_IDS * ID;
/// Most bytes of a receipt: 71 an id, and what is around them.
const MAX_RECEIPT: usize = 32 * 1024;
/// Most questions over one stream: as many ids as a log has entries.
const MAX_QUESTIONS: usize = 1024;

/// What a node holds.
#[async_trait]
pub(crate) trait Holdings: Debug + Send + Sync {
    /// For each of these, until when it is held, if it is: durable, valid, and not expired.
    async fn held(&self, ids: Vec<EnvelopeId>) -> Result<Vec<Option<Timestamp>>>;
}

/// Asks one peer what it holds, question by question over one stream.
#[derive(Debug)]
pub(crate) struct Have<S> {
    channel: Channel<S>,
    node: PublicKey,
}

impl<S: Stream> Have<S> {
    /// Asks the peer that has this key: a receipt of another counts for nothing.
    pub(crate) fn new(stream: S, node: PublicKey, limits: Limits) -> Self {
        Self { channel: Channel::new(stream, limits.frame), node }
    }

    /// What the peer says it holds of these. One answer for each, in order.
    ///
    /// # Errors
    /// `VerificationFailed` for a receipt that is not this peer's, not of now, or names what was not asked;
    /// `InvalidEnvelope` for what is none; `Timeout`, `Unreachable`, `TooLarge`.
    pub(crate) async fn ask(&mut self, ids: &[EnvelopeId], now: Timestamp) -> Result<Vec<HoldingState>> {
        let mut states = Vec::with_capacity(ids.len());
        for ids in ids.chunks(MAX_RECEIPT_IDS) {
            let question: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
            self.channel.send(&question).await?;
            let answer = self.channel.expect(MAX_RECEIPT).await?;
            let receipt = self.read(&answer, ids, now)?;
            let held = |id| receipt.as_ref().filter(|receipt| receipt.covers(id)).map(CustodyReceipt::until);
            states.extend(ids.iter().map(|id| match held(id) {
                Some(until) => HoldingState::Held { until: Some(until) },
                None => HoldingState::Absent,
            }));
        }
        Ok(states)
    }

    pub(super) fn read(&self, json: &[u8], asked: &[EnvelopeId], now: Timestamp) -> Result<Option<CustodyReceipt>> {
        if json.is_empty() {
            return Ok(None);
        }
        let json = str::from_utf8(json).map_err(|error| nonsense("the peer's receipt is no text").source(error))?;
        let receipt = CustodyReceipt::parse(json)?;
        let wrong = |why: &'static str| Err(Error::new(ErrorKind::VerificationFailed, why));
        if receipt.node() != self.node {
            return wrong("the peer's receipt is signed by another key than the peer's");
        }
        if !receipt.is_current(now) {
            return wrong("the peer's receipt is of another time than now");
        }
        if !receipt.ids().iter().all(|id| asked.contains(id)) {
            return wrong("the peer's receipt names what was not asked");
        }
        Ok(Some(receipt))
    }
}

/// Answers the questions of a stream, with receipts that `key` signs.
///
/// # Errors
/// `Timeout` and `Unreachable` for a peer that is slow or gone, `Unexpected` and `TooLarge` for a question that is none;
/// those of the store.
pub(crate) async fn serve<S: Stream>(
    stream: S,
    holdings: &(impl Holdings + ?Sized),
    key: &SecretKey,
    clock: &dyn Clock,
    limits: Limits,
) -> Result<()> {
    let session = async {
        let mut channel = Channel::new(Paced::new(stream), limits.frame);
        for _ in 0..MAX_QUESTIONS {
            let Some(question) = channel.next(MAX_QUESTION).await? else { return channel.close().await };
            let ids = read_ids(&question).ok_or_else(|| nonsense("the peer's question has no ids"))?;
            let answer = receipt(holdings, ids, key, clock).await?;
            channel.send(answer.as_bytes()).await?;
        }
        channel.close().await
    };
    within(limits.session, session).await
}

pub(super) fn read_ids(question: &[u8]) -> Option<Vec<EnvelopeId>> {
    let (ids, rest) = question.as_chunks::<ID>();
    // Named twice, an id would stand in the receipt twice.
    let mut known = HashSet::new();
    let ids = ids.iter().filter(|id| known.insert(**id)).map(|id| EnvelopeId::from_bytes(*id)).collect();
    (rest.is_empty() && !question.is_empty()).then_some(ids)
}

/// The receipt for those that are held, empty for none.
async fn receipt(
    holdings: &(impl Holdings + ?Sized),
    ids: Vec<EnvelopeId>,
    key: &SecretKey,
    clock: &dyn Clock,
) -> Result<String> {
    let held = holdings.held(ids.clone()).await?;
    let now = clock.now();
    let held: Vec<(EnvelopeId, Timestamp)> =
        ids.into_iter().zip(held).filter_map(|(id, until)| Some((id, until.filter(|until| *until > now)?))).collect();
    let Some(until) = held.iter().map(|(_, until)| *until).min() else { return Ok(String::new()) };
    let ids: Vec<EnvelopeId> = held.into_iter().map(|(id, _)| id).collect();
    Ok(CustodyReceipt::sign(key, &ids, now, until)?.event().to_json())
}
