//! Whether the store can be read, for those who ask whether the node is ready. Anybody may ask that, and as often as they
//! like; so it is looked at once a second at most, however many ask.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

use super::{addresses::Party, store::Store};

/// How long an answer is given again.
const FRESH: Duration = Duration::from_secs(1);

/// What was found the last time.
#[derive(Debug, Default)]
pub(crate) struct Pulse(Mutex<Option<(Instant, bool)>>);

impl Pulse {
    /// Whether the store can be read. Those who ask at one time wait for one look.
    pub(crate) async fn is_readable(&self, store: &Store) -> bool {
        let mut last = self.0.lock().await;
        match *last {
            Some((at, is_readable)) if at.elapsed() < FRESH => is_readable,
            _ => {
                let is_readable = store.last(Party::Node).await.is_ok();
                *last = Some((Instant::now(), is_readable));
                is_readable
            }
        }
    }
}
