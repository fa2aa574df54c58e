//! Two who keep to the rules.

use proptest::prelude::*;
use talkbox_core::ErrorKind;

use super::support::{Log, entry, identity, limits, mailbox, manifest, month, pipe};
use crate::sync::{
    Code, Exchange, Limits, Push, Refusal, Request, Served, Standing, exchange, limits::MAX_ENTRIES, look, serve,
};

/// One session between two logs over a pipe that holds so many bytes.
async fn run(ours: &Log, theirs: &Log, give: bool, bytes: usize, limits: Limits) -> (Exchange, Served) {
    let (here, there) = pipe(bytes);
    let serving = serve(there, |request| theirs.clone().admit(request), limits);
    let asking = exchange(here, mailbox(), month(), give, ours, limits);
    let (exchanged, served) = tokio::join!(asking, serving);
    (exchanged.expect("exchanges"), served.expect("serves"))
}

#[tokio::test]
async fn both_have_all_after_it() {
    let ours = Log::of((0..700).map(|number| entry(number, 300)));
    let theirs = Log::of((500..1_000).map(|number| entry(number, 300)));
    let (exchanged, served) = run(&ours, &theirs, true, 65_536, limits()).await;
    assert_eq!(ours.digests(), theirs.digests());
    assert_eq!((ours.len(), exchanged.came.new, served.came.new), (1_000, 300, 500));
    assert_eq!((exchanged.came.junk, exchanged.came.left, exchanged.more), (0, 0, false));
    assert_eq!((exchanged.peer.entries, exchanged.peer.heads.len()), (500, 3));
    // Each identity went once.
    assert_eq!((ours.identities(), theirs.identities()), (30, 50));
    assert_eq!(exchanged.came.blocks, 330);
    assert_eq!(exchanged.sent.bytes, served.came.bytes);
}

#[tokio::test]
async fn nothing_is_given_unasked() {
    let ours = Log::of((0..50).map(|number| entry(number, 300)));
    let theirs = Log::of((40..60).map(|number| entry(number, 300)));
    let (exchanged, served) = run(&ours, &theirs, false, 65_536, limits()).await;
    assert_eq!((ours.len(), theirs.len()), (60, 20));
    assert_eq!((exchanged.sent.blocks, served.came.blocks), (0, 0));
}

#[tokio::test]
async fn equal_logs_exchange_nothing() {
    let ours = Log::of((0..5_000).map(|number| entry(number, 20)));
    let theirs = ours.clone();
    let (exchanged, served) = run(&ours, &theirs, true, 65_536, limits()).await;
    assert_eq!((exchanged.came.blocks, served.came.blocks, exchanged.more), (0, 0, false));
    let (exchanged, _) = run(&Log::default(), &Log::default(), true, 65_536, limits()).await;
    assert_eq!(exchanged.peer, Standing::default());
}

#[tokio::test]
async fn megabytes_both_ways_through_a_small_pipe_do_not_lock() {
    let ours = Log::of((0..64).map(|number| entry(number, 65_000)));
    let theirs = Log::of((100..164).map(|number| entry(number, 65_000)));
    run(&ours, &theirs, true, 4_096, limits()).await;
    assert_eq!(ours.digests(), theirs.digests());
    assert_eq!(ours.len(), 128);
    let (_, bytes, _) = ours.most();
    assert!(bytes <= 1024 * 1024 + 65_000, "a batch is bounded: {bytes}");
}

#[tokio::test]
async fn ten_thousand_entries_come_in_portions() {
    let ours = Log::default();
    let theirs = Log::of((0..10_000).map(|number| entry(number, 1_600)));
    let (exchanged, _) = run(&ours, &theirs, false, 65_536, limits()).await;
    assert_eq!((exchanged.came.new, exchanged.came.junk, exchanged.more), (10_000, 0, false));
    assert_eq!(ours.identities(), 1_000);
    let ((blocks, bytes, _), (_, _, bundled)) = (ours.most(), theirs.most());
    assert!(blocks <= 256 && bytes <= 1024 * 1024 + 1_600 && bundled <= 64, "{blocks} {bytes} {bundled}");
}

#[tokio::test]
async fn what_one_session_does_not_take_the_next_one_does() {
    let theirs = Log::of((0..100).map(|number| entry(number, 10_000)));
    let ours = Log::of((100..200).map(|number| entry(number, 10_000)));
    let limits = Limits { bytes: 400_000, ..limits() };
    let mut sessions = 0;
    loop {
        sessions += 1;
        let (exchanged, served) = run(&ours, &theirs, true, 65_536, limits).await;
        assert!(exchanged.came.bytes <= 400_000 && served.came.bytes <= 400_000);
        if !exchanged.more {
            break;
        }
        assert!(exchanged.came.new > 0 && served.came.new > 0, "each brings something");
    }
    assert_eq!(ours.digests(), theirs.digests());
    assert_eq!((ours.len(), sessions), (200, 3));
}

#[tokio::test]
async fn more_entries_than_a_session_takes_are_left_for_the_next() {
    let theirs = Log::of((0..MAX_ENTRIES as u64 + 1_000).map(|number| entry(number, 16)));
    let ours = Log::default();
    let (first, _) = run(&ours, &theirs, false, 65_536, limits()).await;
    assert_eq!((first.came.new, first.more), (MAX_ENTRIES as u64, true));
    let (second, _) = run(&ours, &theirs, false, 65_536, limits()).await;
    assert_eq!((second.came.new, second.more), (1_000, false));
}

#[tokio::test]
async fn a_push_is_stored_when_it_ends() {
    let theirs = Log::of((0..5).map(|number| entry(number, 300)));
    let (here, there) = pipe(4_096);
    let pushing = async {
        let push = Push::begin(here, mailbox(), month(), limits()).await.expect("begins");
        let (head, time) = push.standing().heads[0];
        assert_eq!((head, time, push.standing().entries), (entry(4, 300).cid, 4, 5));
        let sent = push.give(manifest(), &[identity(5), entry(5, 300)]).await.expect("gives");
        (sent, theirs.len())
    };
    let serving = serve(there, |request| theirs.clone().admit(request), limits());
    let ((sent, stored), served) = tokio::join!(pushing, serving);
    assert_eq!((sent.blocks, stored), (2, 6));
    assert_eq!(served.expect("serves").came.new, 1);
}

#[tokio::test]
async fn a_look_tells_what_is_there() {
    let theirs = Log::of((0..5).map(|number| entry(number, 300)));
    let (here, there) = pipe(4_096);
    let serving = serve(there, |request| theirs.clone().admit(request), limits());
    let (standing, served) = tokio::join!(look(here, mailbox(), month(), limits()), serving);
    assert_eq!((standing.expect("looks").entries, served.expect("serves")), (5, Served::default()));
}

#[tokio::test]
async fn a_refusal_says_why() {
    for (code, kind) in [
        (Code::Unknown, ErrorKind::NotFound),
        (Code::Busy, ErrorKind::RateLimited),
        (Code::Refused, ErrorKind::Refused),
    ] {
        let (here, there) = pipe(4_096);
        let admit = async |_: Request| Err::<Log, _>(Refusal::new(code, &format!("\u{1b}[2J{}", "no".repeat(500))));
        let (asked, served) = tokio::join!(look(here, mailbox(), month(), limits()), serve(there, admit, limits()));
        let error = asked.expect_err("refused");
        assert_eq!((error.kind(), error.context("words").map(|words| words.chars().count())), (kind, Some(256)));
        assert_eq!(served.expect("is no fault"), Served::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_two_logs_become_equal(
        ours in prop::collection::btree_set(0..400_u64, 0..300),
        theirs in prop::collection::btree_set(0..400_u64, 0..300),
        bytes in 16..5_000_usize,
    ) {
        let (ours, theirs) = (
            Log::of(ours.into_iter().map(|number| entry(number, 40))),
            Log::of(theirs.into_iter().map(|number| entry(number, 40))),
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (exchanged, _) = runtime.block_on(run(&ours, &theirs, true, bytes, limits()));
        prop_assert!(!exchanged.more);
        prop_assert_eq!(ours.digests(), theirs.digests());
    }
}
