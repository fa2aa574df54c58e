//! The side of `/talkbox/sync/1` that is asked.

use std::future::Future;

use futures_util::future::try_join;
use talkbox_core::Result;

use super::{
    channel::{Channel, Stream},
    compare,
    frame::within,
    greeting::{self, Code, MAX_REQUEST, Refusal, Request},
    limits::Limits,
    pace::Paced,
    replica::Replica,
    transfer::{self, Came, Sent},
};

/// What a session did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// What came.
    pub(crate) came: Came,
    /// What went.
    pub(crate) sent: Sent,
}

/// Serves a session. `admit` says whether, and on which log.
///
/// # Errors
/// `Timeout` and `Unreachable` for a peer that is slow or gone; `Unexpected`, `TooLarge` and `VerificationFailed` for
/// one that breaks the rules; those of the store. What came before an error is kept.
pub(crate) async fn serve<S, R, F>(stream: S, admit: impl FnOnce(Request) -> F + Send, limits: Limits) -> Result<Served>
where
    S: Stream,
    R: Replica,
    F: Future<Output = std::result::Result<R, Refusal>> + Send,
{
    let session = async {
        let mut channel = Channel::new(Paced::new(stream), limits.frame);
        let Some(request) = Request::decode(&channel.expect(MAX_REQUEST).await?)? else {
            return refuse(channel, Refusal::new(Code::Refused, "another version is spoken here")).await;
        };
        let replica = match admit(request).await {
            Ok(replica) => replica,
            Err(refusal) => return refuse(channel, refusal).await,
        };
        let standing = replica.standing().await?;
        channel.send(&greeting::encode(&Ok(standing))?).await?;
        match request {
            Request { want: true, give, .. } => exchange(channel, &replica, give, limits).await,
            Request { give: true, .. } => take(channel, &replica, limits).await,
            Request { .. } => channel.close().await.map(|()| Served::default()),
        }
    };
    within(limits.session, Box::pin(session)).await
}

async fn refuse<S: Stream>(mut channel: Channel<S>, refusal: Refusal) -> Result<Served> {
    channel.send(&greeting::encode(&Err(refusal))?).await?;
    channel.close().await?;
    Ok(Served::default())
}

/// Compares, then sends what is wanted and takes what is given.
async fn exchange<S, R>(mut channel: Channel<S>, replica: &R, give: bool, limits: Limits) -> Result<Served>
where
    S: Stream,
    R: Replica,
{
    let set = replica.set().await?;
    compare::answer(&mut channel, &*set).await?;
    drop(set);
    let wanted = compare::read_wanted(&mut channel).await?;
    let Channel { reader, writer, .. } = channel;
    let sending = async { Ok(transfer::send_entries(writer, replica, &wanted, limits).await) };
    let receiving = async {
        match give {
            true => transfer::receive(reader, replica, None, limits).await,
            false => transfer::receive_nothing(reader, limits.frame).await.map(|()| Came::default()),
        }
    };
    let (sent, came) = try_join(sending, receiving).await?;
    Ok(Served { came, sent: sent? })
}

/// Takes what is given, and ends the stream when it is stored.
async fn take<S: Stream, R: Replica>(mut channel: Channel<S>, replica: &R, limits: Limits) -> Result<Served> {
    let came = transfer::receive(&mut channel.reader, replica, None, limits).await?;
    channel.close().await?;
    Ok(Served { came, sent: Sent::default() })
}
