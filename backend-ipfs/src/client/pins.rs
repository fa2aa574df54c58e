//! Pinning services as holders: `ipfs:pin/NAME`. They keep what this peer has, and are no place that others could put to or
//! list from.

use talkbox_core::{EnvelopeId, HoldingState, Locator, Result};

use super::network::{Network, SCHEMES};
use crate::pinning::{Keeper, Standing};

/// What the rest of a locator of a service begins with.
const PIN: &str = "pin/";

/// The locator of a service.
///
/// # Errors
/// `InvalidInput` for a name that fits into none.
fn locator(name: &str) -> Result<Locator> {
    Locator::new(SCHEMES[0], &format!("{PIN}{name}"))
}

/// The name of the service that a locator means, if it means one.
pub(super) fn service(locator: &Locator) -> Option<&str> {
    locator.rest().strip_prefix(PIN)
}

/// How envelopes stand at each service that is configured: nothing for those that are not here.
pub(super) async fn standings(network: &Network, ids: &[EnvelopeId]) -> Vec<(Locator, Vec<Option<Standing>>)> {
    let Some(keeper) = &network.peer.pins else { return Vec::new() };
    let of = |name: &str| locator(name).ok();
    let services: Vec<Option<Locator>> = keeper.services().map(of).collect();
    match standing(network, keeper, ids).await {
        Ok(rows) => {
            let column = |at: usize| rows.iter().map(|row| row.get(at).cloned()).collect();
            let named = services.into_iter().enumerate();
            named.filter_map(|(at, service)| Some((service?, column(at)))).collect()
        }
        Err(error) => {
            tracing::warn!(%error, "how pins stand cannot be read");
            Vec::new()
        }
    }
}

/// What a service holds of some ids.
///
/// # Errors
/// `Storage`.
pub(super) async fn held(network: &Network, service: &str, ids: &[EnvelopeId]) -> Result<Vec<HoldingState>> {
    let Some(keeper) = &network.peer.pins else { return Ok(vec![HoldingState::Unknown; ids.len()]) };
    let Some(at) = keeper.services().position(|name| name == service) else {
        return Ok(vec![HoldingState::Unknown; ids.len()]);
    };
    let state = |row: Vec<Standing>| match row.into_iter().nth(at) {
        Some(Standing::Pinned) => HoldingState::Held { until: None },
        // It may have it by now: what it says next tells.
        _ => HoldingState::Unknown,
    };
    Ok(standing(network, keeper, ids).await?.into_iter().map(state).collect())
}

/// One row for each id, of all services in order; an empty one for what is not here.
async fn standing(network: &Network, keeper: &Keeper, ids: &[EnvelopeId]) -> Result<Vec<Vec<Standing>>> {
    let places = network.peer.store.places(ids.to_vec()).await?;
    let mail = places.iter().flatten().map(|(log, seq)| (log.as_str().to_owned(), *seq)).collect();
    let mut known = keeper.standing(mail).await?.into_iter();
    Ok(places.into_iter().map(|place| place.and_then(|_| known.next()).unwrap_or_default()).collect())
}
