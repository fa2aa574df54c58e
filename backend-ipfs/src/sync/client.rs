//! The side of `/talkbox/sync/1` that opens the stream.

use futures_util::future::try_join;
use talkbox_core::{Error, ErrorKind, MailboxId, Result};

use super::{
    channel::{Channel, Stream},
    compare,
    frame::within,
    greeting::{self, MAX_ANSWER, Request, Standing},
    limits::Limits,
    replica::{Digest, Replica},
    transfer::{self, Came, Sent},
};
use crate::orbitdb::{Block, Cid, Month};

/// What a session did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// What the peer had when it began.
    pub(crate) peer: Standing,
    /// What came from it.
    pub(crate) came: Came,
    /// What went to it. It may not have stored all of that yet.
    pub(crate) sent: Sent,
    /// The entries held here that the peer lacked when it began.
    pub(crate) lacking: Vec<Digest>,
    /// Whether there is more to exchange than one session takes: begin another.
    pub(crate) more: bool,
}

/// Asks what a peer has of a log.
///
/// # Errors
/// `NotFound` where it does not keep it, `RateLimited`, `Refused`; `Timeout`, `Unreachable`, `Unexpected`.
#[cfg(test)]
pub(crate) async fn look<S: Stream>(stream: S, mailbox: MailboxId, month: Month, limits: Limits) -> Result<Standing> {
    let request = Request { mailbox, month, want: false, give: false };
    let (mut channel, standing) = begin(stream, &request, limits).await?;
    channel.close().await?;
    Ok(standing)
}

/// Makes a log here and a log there the same: fetches what is lacked here, and gives what the peer lacks where `give`
/// says so.
///
/// # Errors
/// `NotFound` where the peer does not keep the log, `RateLimited`, `Refused`; `Timeout`, `Unreachable`, `Unexpected`;
/// `TooLarge` and `VerificationFailed` for a peer that sends too much, or junk; those of the store. What
/// came before an error is kept.
pub(crate) async fn exchange<S: Stream, R: Replica + ?Sized>(
    stream: S,
    mailbox: MailboxId,
    month: Month,
    give: bool,
    replica: &R,
    limits: Limits,
) -> Result<Exchange> {
    let session = async {
        let request = Request { mailbox, month, want: true, give };
        let (mut channel, peer) = begin(stream, &request, limits).await?;
        let set = replica.set().await?;
        let difference = compare::ask(&mut channel, &*set, give).await?;
        drop(set);
        compare::send_wanted(&mut channel, difference.need.as_slice()).await?;
        let Channel { reader, writer, .. } = channel;
        // Both at once: each waits for the other to read. Whoever no longer listens may still have something to say.
        let sending = async {
            Ok(match give {
                true => transfer::send_entries(writer, replica, difference.have.as_slice(), limits).await,
                false => transfer::send_nothing(writer, limits).await,
            })
        };
        let receiving = transfer::receive(reader, replica, Some(difference.need.into_set()), limits);
        let (sent, came) = try_join(sending, receiving).await?;
        let sent = sent?;
        let more = difference.more || !sent.complete || came.left > 0;
        Ok(Exchange { peer, came, sent, lacking: difference.lacking, more })
    };
    within(limits.session, Box::pin(session)).await
}

/// A session in which new entries are given to a peer: on top of what it has, and without comparing.
#[derive(Debug)]
pub(crate) struct Push<S> {
    channel: Channel<S>,
    standing: Standing,
    limits: Limits,
}

impl<S: Stream> Push<S> {
    /// Begins one. The peer waits for [`give`](Self::give) as long as for any frame.
    ///
    /// # Errors
    /// As [`exchange`].
    pub(crate) async fn begin(stream: S, mailbox: MailboxId, month: Month, limits: Limits) -> Result<Self> {
        let request = Request { mailbox, month, want: false, give: true };
        let (channel, standing) = begin(stream, &request, limits).await?;
        Ok(Self { channel, standing, limits })
    }

    /// What the peer has: its heads are what new entries go on top of.
    pub(crate) const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Gives blocks, identities before their entries, and waits until the peer has stored what it takes of them. Which
    /// these are it does not say: that is asked by `/talkbox/have/1`.
    ///
    /// # Errors
    /// `TooLarge` where they are more than a session takes; as [`exchange`].
    pub(crate) async fn give(self, manifest: Cid, blocks: &[Block]) -> Result<Sent> {
        let Self { channel, limits, .. } = self;
        let Channel { reader, writer, .. } = channel;
        let sent = within(limits.session, transfer::send_blocks(writer, manifest, blocks, limits)).await?;
        if !sent.complete {
            return Err(Error::new(ErrorKind::TooLarge, "more than one session takes").with("blocks", blocks.len()));
        }
        transfer::receive_nothing(reader, limits.settle).await?;
        Ok(sent)
    }
}

/// Says what is wanted, and hears what the peer says to that.
async fn begin<S: Stream>(stream: S, request: &Request, limits: Limits) -> Result<(Channel<S>, Standing)> {
    let mut channel = Channel::new(stream, limits.frame);
    channel.send(&request.encode()?).await?;
    let standing = greeting::decode(&channel.expect(MAX_ANSWER).await?)??;
    Ok((channel, standing))
}
