//! Work on many items over all cores, for what is nothing but curve arithmetic: checking and opening envelopes, and
//! the signatures that a backend has of its own.

use std::{
    num::NonZero,
    panic::resume_unwind,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Items that a thread takes at once: half a millisecond or more. Below that many a further thread costs more than it saves,
/// since it takes about 30 µs to start.
const SHARE: usize = 8;

/// `f` of every item, in order, over all cores. Blocks; call it off the async threads where there are many.
///
/// The items are not divided beforehand: a thread that gets less of its core than another, because the machine does
/// something else, too, then only does fewer of them, and all end together.
///
/// ```
/// assert_eq!(talkbox_core::parallel::map(&[1, 2, 3], |n| n * 2), [2, 4, 6]);
/// ```
pub fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get).min(items.len() / SHARE);
    if cores < 2 {
        return items.iter().map(f).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let start = next.fetch_add(SHARE, Ordering::Relaxed);
            let Some(rest) = items.get(start..).filter(|rest| !rest.is_empty()) else { return done };
            let share = &rest[..SHARE.min(rest.len())];
            done.push((start, share.iter().map(&f).collect::<Vec<R>>()));
        }
    };
    let mut done = thread::scope(|scope| {
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        done.extend(others.into_iter().flat_map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic))));
        done
    });
    done.sort_unstable_by_key(|(start, _)| *start);
    done.into_iter().flat_map(|(_, results)| results).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn order_is_kept() {
        // The last share is not a whole one.
        let items: Vec<u32> = (0..1003).collect();
        assert_eq!(super::map(&items, |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>());
        assert!(super::map(&[] as &[u32], |n| n * 2).is_empty());
    }
}
