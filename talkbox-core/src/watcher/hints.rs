//! Hints: whoever says "look" makes the holders be listed that are not live anyway, a few times a minute at most.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::time::sleep;

use super::{WatcherOptions, signals::HolderState};
use crate::{
    MailboxId,
    layers::jittered,
    transport::{SubscribeOptions, Transport},
};

/// Follows the hints of one transport. A subscription that ends is begun again; what one that had given something
/// missed meanwhile counts as one hint.
pub(super) async fn follow(
    transport: Arc<dyn Transport>,
    holders: Vec<Arc<HolderState>>,
    owner: MailboxId,
    options: Arc<WatcherOptions>,
) {
    let mut pause = options.pause;
    let mut subscribe = SubscribeOptions::default();
    subscribe.auth.clone_from(&options.auth);
    loop {
        let mut hints = transport.subscribe(owner, subscribe.clone());
        let mut any = false;
        while let Some(hint) = hints.next().await {
            match hint {
                // Another mailbox's hint is no reason to list this one.
                Ok(hint) if hint.mailbox() == owner => {
                    any = true;
                    holders.iter().for_each(|holder| holder.hinted());
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "the transport reports a failure"),
            }
        }
        if any {
            pause = options.pause;
        }
        sleep(jittered(pause, 0.2)).await;
        pause = pause.saturating_mul(2).min(options.longest_pause);
        if any {
            holders.iter().for_each(|holder| holder.hinted());
        }
    }
}
