//! The turn of a month, and the end of one.

use std::time::Duration;

use talkbox_core::{Clock as _, ManualClock, Timestamp};
use tokio::time::{advance, pause, resume};

use crate::support::{Place, clock, listed, mail, open, owner, put, until_shown, wait_listed, watch};

/// More than the time after which a watch and a node look what month it is.
const LOOK_AGAIN: Duration = Duration::from_secs(310);

/// 2026-11-30T23:40:00Z: the next month is not open yet, and will be in five minutes.
const BEFORE: Timestamp = Timestamp(1_796_082_000);

/// Moves both clocks: the one that is handed in, and the one by which tasks wait.
async fn pass(clock: &ManualClock, by: Duration) {
    clock.advance(by);
    pause();
    advance(by.min(LOOK_AGAIN)).await;
    resume();
}

#[tokio::test]
async fn a_watch_goes_on_when_the_month_turns() {
    let (clock, owner) = (ManualClock::new(BEFORE), owner().id());
    let place = Place::start(&clock, Some(vec![owner]), Vec::new()).await;
    let reader = open(&[&place], &clock, None).await;
    let mut events = watch(&*reader, owner, 1).await;
    let writer = open(&[&place], &clock, None).await;
    let old = mail(owner, &clock, 2);
    put(&*writer, &old, 1).await;
    until_shown(&mut events, &old).await;

    let late = mail(owner, &clock, 2);
    // The new month is open from 23:45 on; both look before anybody writes to it.
    pass(&clock, Duration::from_secs(10 * 60)).await;
    // The watch is driven by whoever reads it.
    assert!(tokio::time::timeout(Duration::from_secs(2), futures_util::StreamExt::next(&mut events)).await.is_err());
    pass(&clock, Duration::from_secs(20 * 60)).await;
    let new = mail(owner, &clock, 2);
    assert_ne!(new[0].created_at().secs() / 86_400, old[0].created_at().secs() / 86_400);
    let begun = std::time::Instant::now();
    put(&*writer, &new, 1).await;
    until_shown(&mut events, &new).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "it is heard, and not found by looking");
    // What is dated back goes to the month before, which is watched as before.
    put(&*writer, &late, 1).await;
    until_shown(&mut events, &late).await;
    let fresh = open(&[&place], &clock, None).await;
    for envelopes in [&old, &new, &late] {
        wait_listed(&*fresh, owner, &place.locator(), envelopes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn months_are_dropped_when_their_mail_is_long_over() {
    let (clock, owner) = (clock(), owner().id());
    let mut place = Place::start(&clock, Some(vec![owner]), Vec::new()).await;
    let home = tempfile::TempDir::new().expect("a folder");
    let mailbox = open(&[&place], &clock, Some(home.path())).await;
    let old = mail(owner, &clock, 20);
    put(&*mailbox, &old, 1).await;
    assert_eq!(listed(&*mailbox, owner, &place.locator()).await.expect("lists").len(), 20);
    mailbox.close().await;

    clock.advance(Duration::from_secs(130 * 86_400));
    place.start_again().await;
    let mailbox = open(&[&place], &clock, Some(home.path())).await;
    let new = mail(owner, &clock, 3);
    put(&*mailbox, &new, 1).await;
    assert_eq!(listed(&*mailbox, owner, &place.locator()).await.expect("lists"), crate::support::ids(&new));
    let holdings = mailbox
        .audit(owner, &place.locator(), &[old[0].id(), new[0].id()], talkbox_core::AuditOptions::default())
        .await
        .expect("answers");
    assert!(matches!(holdings[0].state, talkbox_core::HoldingState::Absent), "{holdings:?}");
    assert!(matches!(holdings[1].state, talkbox_core::HoldingState::Held { .. }), "{holdings:?}");
    assert!(clock.now() > old[0].expires_at());
}
