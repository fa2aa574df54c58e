//! What a peer says that it holds: `/talkbox/have/1`, with a receipt that its own key has signed.

use talkbox_core::{EnvelopeId, ErrorKind, Holding, HoldingState, Result};

use super::network::{Holder, Network};
use crate::{
    node::key::signer,
    sync::{self, Limits, have::Have},
};

/// What a peer holds of some ids. One that signs nothing, such as a JavaScript peer, is `Unknown`: that it was given
/// something does not mean that it keeps it.
///
/// # Errors
/// `Unreachable`, `Timeout`; `VerificationFailed` for a receipt that does not hold.
pub(super) async fn audit(network: &Network, holder: &Holder, ids: &[EnvelopeId]) -> Result<Vec<Holding>> {
    let states = match held(network, holder, ids).await? {
        Some(states) => states,
        None => vec![HoldingState::Unknown; ids.len()],
    };
    Ok(ids.iter().zip(states).map(|(id, state)| Holding { id: *id, state }).collect())
}

/// What a peer says of some ids; nothing where it does not speak of that, or signs with no key that its id shows.
///
/// # Errors
/// As [`audit`].
pub(super) async fn held(network: &Network, holder: &Holder, ids: &[EnvelopeId]) -> Result<Option<Vec<HoldingState>>> {
    let Some(key) = signer(&holder.peer()) else { return Ok(None) };
    network.connect(holder).await?;
    let stream = match network.open_stream(holder.peer(), sync::HAVE).await {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(None),
        Err(error) => return Err(error),
    };
    let limits = Limits { frame: network.timeout, ..Limits::default() };
    Have::new(stream, key, limits).ask(ids, network.clock.now()).await.map(Some)
}
