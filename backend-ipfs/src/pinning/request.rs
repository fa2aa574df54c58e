//! A pin is asked for once, whatever became of earlier answers.

use talkbox_core::{ErrorKind, Result};

use super::{
    api::{Pin, PinStatus, RequestId, State},
    service::PinService,
};
use crate::orbitdb::Cid;

/// Makes the request, or finds the one that was made: in the place of `replaces`, where that is still there. `unheard` is
/// the root of an earlier request that was not answered, `held` the one whose place is not to be taken.
///
/// # Errors
/// Those of the service.
pub(super) async fn request(
    service: &dyn PinService,
    pin: &Pin,
    replaces: Option<&RequestId>,
    unheard: Option<Cid>,
    held: Option<&RequestId>,
) -> Result<PinStatus> {
    let mut may_be_there: Vec<_> = unheard.into_iter().collect();
    if let Some(id) = replaces {
        match service.replace(id, pin).await {
            Err(error) if error.kind() == ErrorKind::NotFound => may_be_there.push(pin.cid),
            done => return done,
        }
    }
    if may_be_there.is_empty() {
        return service.add(pin).await;
    }
    if !may_be_there.contains(&pin.cid) {
        may_be_there.push(pin.cid);
    }
    let found = service.list(&may_be_there).await?.pins.into_iter();
    let found = found.filter(|status| may_be_there.contains(&status.cid) && Some(&status.id) != held);
    // Best what is wanted now, and of that what is furthest.
    let rank = |status: &PinStatus| (status.cid == pin.cid, status.state == State::Pinned);
    match found.max_by_key(rank) {
        Some(found) if found.cid == pin.cid && found.state != State::Failed => Ok(found),
        Some(other) => match service.replace(&other.id, pin).await {
            Err(error) if error.kind() == ErrorKind::NotFound => service.add(pin).await,
            done => done,
        },
        None => service.add(pin).await,
    }
}
