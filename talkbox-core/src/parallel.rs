//! Work on many items over all cores, for the two operations that are nothing but curve arithmetic: checking and
//! opening envelopes.

use std::{num::NonZero, thread};

/// Below this many items a thread costs more than it saves: an item is about 40 to 160 µs, a thread about 30 µs.
const WORTH_A_THREAD: usize = 8;

/// `f` of every item, in order, over all cores. Blocks; call it off the async threads where there are many.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get).min(items.len() / WORTH_A_THREAD);
    if cores < 2 {
        return items.iter().map(f).collect();
    }
    let f = &f;
    thread::scope(|scope| {
        let parts: Vec<_> = items
            .chunks(items.len().div_ceil(cores))
            .map(|part| scope.spawn(move || part.iter().map(f).collect::<Vec<R>>()))
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn order_is_kept() {
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(super::map(&items, |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>());
        assert!(super::map(&[] as &[u32], |n| n * 2).is_empty());
    }
}
