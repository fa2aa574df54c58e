//! Looks for rot in what nobody reads, slowly and all the time, so that it is found while peers still have what was there.

use std::{sync::Arc, time::Duration};

use talkbox_core::anti_entropy::ReconciledSet as _;

use super::{Shared, addresses::Party};

/// In how many seconds every row is looked at once: a week. Rot is rare, and peers keep mail for weeks at least.
const WHOLE: u64 = 7 * 86_400;
/// Least rows of a portion: 4 ms of work. A small store is gone through sooner.
const LEAST: u64 = 64;
/// Most rows of a portion: a quarter of a second of one core. A store of 40 million takes longer than a week.
const MOST: u64 = 4_096;

/// Scrubs until the node stops.
pub(super) async fn run(node: Arc<Shared>) {
    let every = node.config.scrub_interval.max(1);
    let mut stop = node.stop.clone();
    let mut after = None;
    loop {
        tokio::select! {
            biased;
            () = stop.asked() => return,
            () = tokio::time::sleep(Duration::from_secs(every)) => {}
        }
        let from = match after {
            Some(after) => after,
            None => begin(&node).await,
        };
        let rows = node.store.held().len() as u64;
        match node.store.scrub(from, portion(rows, every)).await {
            Ok(found) => {
                node.metrics.scrubbed.add(found.rows);
                if found.indexes_differ {
                    node.store.writer().mend();
                }
                after = Some(found.last.unwrap_or(0));
            }
            Err(error) => tracing::debug!(%error, "the store could not be scrubbed"),
        }
    }
}

/// Rows of one portion, where there are so many in all.
fn portion(rows: u64, every: u64) -> usize {
    let rows = rows.saturating_mul(every).div_ceil(WHOLE).clamp(LEAST, MOST);
    usize::try_from(rows).unwrap_or(usize::MAX)
}

/// Where to begin: as far into the store as the time is into the week, so that a node that is started every day does not
/// look at the same part each time.
async fn begin(node: &Shared) -> i64 {
    let last = node.store.last(Party::Node).await.unwrap_or(0);
    let share = (node.now().secs() % WHOLE) as f64 / WHOLE as f64;
    (last as f64 * share) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_looked_at_once_a_week() {
        for (rows, every) in [(1_000_000, 60), (30_000_000, 60), (1_000_000, 1_800)] {
            let portions = rows / portion(rows, every) as u64;
            let took = portions * every;
            assert!(took <= WHOLE && took > WHOLE - WHOLE / 50, "{rows} every {every} s: {took} s");
        }
        assert_eq!((portion(0, 60), portion(u64::MAX, 60)), (64, 4_096));
    }
}
