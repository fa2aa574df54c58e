//! Whether the store can be read and has room, for those who ask whether the node is ready. Anybody may ask that, and as often as they
//! like; so it is looked at once a second at most, however many ask.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

use super::{addresses::Party, store::Store};

/// How long an answer is given again.
const FRESH: Duration = Duration::from_secs(1);

const UNREADABLE: &str = "the store cannot be read";

/// What was found the last time.
#[derive(Debug, Default)]
pub(crate) struct Pulse(Mutex<Option<(Instant, Option<&'static str>)>>);

impl Pulse {
    /// What is wrong with the store, if anything is. Those who ask at one time wait for one look.
    pub(crate) async fn fault(&self, store: &Store) -> Option<&'static str> {
        let mut last = self.0.lock().await;
        match *last {
            Some((at, fault)) if at.elapsed() < FRESH => fault,
            _ => {
                let fault = match store.is_full().await {
                    Ok(false) => store.last(Party::Node).await.err().map(|_| UNREADABLE),
                    Ok(true) => Some("the store is as large as it may be"),
                    Err(_) => Some(UNREADABLE),
                };
                *last = Some((Instant::now(), fault));
                fault
            }
        }
    }
}
