//! Finding out in which entries two logs differ, by negentropy: whoever began the session begins, and the other keeps
//! nothing between two messages.

use std::collections::HashSet;

use talkbox_core::{
    EventId, Result,
    anti_entropy::{FrameLimit, Initiator, ReconciledSet, respond},
};

use super::{
    channel::{Channel, Stream},
    frame::{cut_off, nonsense},
    limits::{MAX_ENTRIES, MAX_FRAME, MAX_ROUNDS},
    replica::Digest,
};

/// What a message may be.
const FRAME: FrameLimit = FrameLimit::at_most(MAX_FRAME).expect("more than the least");

/// In what two logs differ, as far as one session takes it.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// The peer says that it has these, and they are not held here.
    pub(super) need: Digests,
    /// These are held here, and the peer lacks them.
    pub(super) have: Digests,
    /// The same, all of them, also those that are more than a session takes.
    pub(super) lacking: Vec<Digest>,
    /// Whether there is more than that.
    pub(super) more: bool,
}

/// Digests in the order in which they were told, each once, and no more than a session takes.
#[derive(Debug, Default)]
pub(super) struct Digests {
    in_order: Vec<Digest>,
    known: HashSet<Digest>,
}

impl Digests {
    /// Adds some. Whether all had room.
    fn extend(&mut self, ids: &[EventId]) -> bool {
        for id in ids {
            if self.is_full() && !self.known.contains(id.as_bytes()) {
                return false;
            }
            if self.known.insert(*id.as_bytes()) {
                self.in_order.push(*id.as_bytes());
            }
        }
        true
    }

    fn is_full(&self) -> bool {
        self.in_order.len() >= MAX_ENTRIES
    }

    pub(super) fn as_slice(&self) -> &[Digest] {
        &self.in_order
    }

    pub(super) fn into_set(self) -> HashSet<Digest> {
        self.known
    }
}

/// Asks until all that differs has been named, or more than a session takes.
///
/// `give` says whether what the peer lacks is of use.
pub(super) async fn ask<S: Stream>(
    channel: &mut Channel<S>,
    set: &(dyn ReconciledSet + Send + Sync),
    give: bool,
) -> Result<Difference> {
    // The peer's list of a small range is all that is needed, so ours would be sent for nothing.
    let initiator = Initiator::new(FRAME).without_lists();
    let mut difference = Difference::default();
    let mut message = initiator.start(set);
    for round in 1.. {
        channel.send(&message).await?;
        let step = initiator.step(set, &channel.expect(MAX_FRAME).await?)?;
        difference.more |= !difference.need.extend(&step.need);
        // A peer that names ours again and again says nothing new.
        let room = set.len().saturating_sub(difference.lacking.len());
        difference.lacking.extend(step.have.iter().take(room).map(EventId::as_bytes));
        if give {
            difference.more |= !difference.have.extend(&step.have);
        }
        let Some(reply) = step.reply else { break };
        let full = difference.need.is_full() && (!give || difference.have.is_full());
        if full || round == MAX_ROUNDS {
            difference.more = true;
            break;
        }
        message = reply;
    }
    // No message of negentropy is empty.
    channel.send(&[]).await?;
    Ok(difference)
}

/// Answers until the peer has no more questions.
pub(super) async fn answer<S: Stream>(channel: &mut Channel<S>, set: &(dyn ReconciledSet + Send + Sync)) -> Result<()> {
    for _ in 0..=MAX_ROUNDS {
        let message = channel.expect(MAX_FRAME).await?;
        if message.is_empty() {
            return Ok(());
        }
        channel.send(&respond(set, &message, FRAME)?).await?;
    }
    Err(nonsense("the peer compares without end"))
}

/// Tells which entries are wanted.
pub(super) async fn send_wanted<S: Stream>(channel: &mut Channel<S>, wanted: &[Digest]) -> Result<()> {
    for digests in wanted.chunks(MAX_FRAME / size_of::<Digest>()) {
        channel.send(digests.as_flattened()).await?;
    }
    channel.send(&[]).await
}

/// Hears which entries are wanted.
pub(super) async fn read_wanted<S: Stream>(channel: &mut Channel<S>) -> Result<Vec<Digest>> {
    let mut wanted = Vec::new();
    loop {
        let frame = channel.next(MAX_FRAME).await?.ok_or_else(cut_off)?;
        if frame.is_empty() {
            return Ok(wanted);
        }
        let (digests, rest) = frame.as_chunks();
        if !rest.is_empty() || wanted.len() + digests.len() > MAX_ENTRIES {
            return Err(nonsense("the peer asks for what cannot be"));
        }
        wanted.extend_from_slice(digests);
    }
}
