//! Replicas: an answer for each member, holders counted once, every place sent to who opens it.

mod layers_fakes;

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use layers_fakes::{Calls, Fake, Step, acked, envelopes, error, locator, owner};
use talkbox_core::{
    AuditOptions, Cursor, ErrorKind, Locator, Mailbox, Page, PutOptions, RawEnvelope, Receipt, Refusal, Retry,
    replicas::{Causes, ListAllOptions, Replicas},
};
use tokio::time::Instant;

fn replicas(members: Vec<Fake>) -> (Vec<Arc<Fake>>, Replicas) {
    let members: Vec<Arc<Fake>> = members.into_iter().map(Arc::new).collect();
    let named = members.iter().map(|one| (one.descriptor.name.clone(), Arc::clone(one) as Arc<dyn Mailbox>));
    let replicas = Replicas::new(named.collect::<Vec<_>>(), None);
    (members, replicas)
}

fn places(places: &[&str]) -> Vec<Locator> {
    places.iter().map(|place| locator(place)).collect()
}

#[tokio::test(start_paused = true)]
async fn members_are_put_to_at_once_and_holders_counted_once() {
    let second = Duration::from_secs(1);
    let (one, two) = (places(&["n:1", "n:2"]), places(&["n:2", "g:3"]));
    let (_, replicas) = replicas(vec![
        Fake::new("one", &["n"], &["n:1", "n:2"]).then_put(Step::After(second, vec![Ok(acked(&one))])),
        Fake::new("two", &["n", "g"], &["n:2", "g:3"]).then_put(Step::After(second, vec![Ok(acked(&two))])),
        Fake::new("three", &["i"], &["i:4"]).then_put(Step::After(second, vec![error(ErrorKind::Unreachable)])),
    ]);
    assert_eq!(replicas.holders().len(), 4);
    let start = Instant::now();
    let placement = replicas.put(&envelopes(1, 1), PutOptions::default()).await.remove(0);
    assert_eq!(start.elapsed(), second);
    assert_eq!(placement.stored(), 3);
    let members: Vec<_> =
        placement.answers.iter().map(|answer| (answer.member.as_str(), answer.receipt.is_ok())).collect();
    assert_eq!(members, [("one", true), ("two", true), ("three", false)]);
    let receipt = placement.settle().expect("stored");
    assert_eq!(receipt.acks.len(), 3);
    let [refused] = &receipt.refused[..] else { panic!("{receipt:?}") };
    assert_eq!(
        (refused.holder.as_str(), refused.kind, refused.retry),
        ("i:4", ErrorKind::Unreachable, Retry::After(None))
    );
}

#[tokio::test]
async fn a_holder_that_one_member_reaches_has_not_refused() {
    let refused = Receipt {
        acks: acked(&places(&["n:1"])).acks,
        refused: vec![Refusal::new(locator("n:2"), ErrorKind::Unreachable, "gone")],
        ..Receipt::default()
    };
    let (_, replicas) = replicas(vec![
        Fake::new("one", &["n"], &["n:1", "n:2"]).then_put(Step::Answer(vec![Ok(refused)])),
        Fake::new("two", &["n"], &["n:2"]),
    ]);
    let receipt = replicas.put(&envelopes(1, 1), PutOptions::default()).await.remove(0).receipt();
    assert_eq!((receipt.acks.len(), receipt.refused.len()), (2, 0));
}

#[test]
fn two_have_to_confirm_where_there_are_two() {
    let (_, none) = replicas(vec![]);
    assert_eq!([0, 1, 2, 8].map(|places| none.min_acks(places)), [1, 1, 2, 2]);
    assert_eq!(Replicas::new([], Some(3)).min_acks(1), 3);
}

#[tokio::test]
async fn every_place_goes_to_who_opens_it() {
    let (fakes, mut replicas) = replicas(vec![
        Fake::new("relays", &["n"], &["n:own"]),
        Fake::new("nodes", &["g"], &["g:1"]),
        Fake::new("home", &["g"], &["g:home"]),
    ]);
    let guest = Arc::new(Fake::new("guest", &["i"], &[]));
    replicas.add_guest("guest", Arc::clone(&guest) as Arc<dyn Mailbox>);
    let at = places(&["n:theirs", "g:home", "g:else", "i:peer", "x:what", "n:theirs"]);
    assert!(
        replicas.for_locator(&at[3]).is_some_and(|one| one.name == "guest") && replicas.for_locator(&at[4]).is_none()
    );
    let placement = replicas.put_at(&envelopes(1, 1), &at, PutOptions::default()).await.remove(0);
    let asked = |fake: &Fake| fake.put_at.lock().expect("not poisoned").concat();
    assert_eq!(asked(&fakes[0]), places(&["n:theirs"]));
    // The instance that has the place among its own comes before the first one of its kind.
    assert_eq!((asked(&fakes[1]), asked(&fakes[2])), (places(&["g:else"]), places(&["g:home"])));
    assert_eq!(asked(&guest), places(&["i:peer"]));
    assert_eq!(placement.stored(), 4);
    let receipt = placement.receipt();
    let [refused] = &receipt.refused[..] else { panic!("{receipt:?}") };
    assert_eq!((refused.holder.as_str(), refused.kind, refused.retry), ("x:what", ErrorKind::Unsupported, Retry::No));
    assert_eq!(refused.words, "no backend is open for `x:`");
    // A guest is not asked for one's own mail.
    replicas.put(&envelopes(1, 1), PutOptions::default()).await;
    assert_eq!(Calls::of(&guest.calls.put), 1);
}

#[tokio::test]
async fn when_nobody_stores_it_every_cause_is_told() {
    let (_, replicas) = replicas(vec![
        Fake::new("one", &["n"], &["n:1"]).then_put(Step::Answer(vec![error(ErrorKind::Refused)])),
        Fake::new("two", &["g"], &["g:2"]).then_put(Step::Answer(vec![error(ErrorKind::Timeout)])),
    ]);
    let failed = replicas.put(&envelopes(1, 1), PutOptions::default()).await.remove(0).settle().expect_err("nobody");
    assert_eq!((failed.kind(), failed.is_retryable()), (ErrorKind::Timeout, true));
    let causes = Causes::of(&failed).expect("causes");
    let told: Vec<_> = causes.iter().map(|(who, error)| (who, error.kind())).collect();
    assert_eq!(told, [("one", ErrorKind::Refused), ("two", ErrorKind::Timeout)]);

    let unopened = replicas.put_at(&envelopes(1, 1), &places(&["x:1"]), PutOptions::default()).await.remove(0);
    let failed = unopened.settle().expect_err("nobody");
    assert_eq!((failed.kind(), failed.message()), (ErrorKind::Unsupported, "no backend is open for `x:`"));
}

#[tokio::test]
async fn what_is_queued_is_no_ack_and_no_failure() {
    let pending = Receipt { pending: places(&["i:pin"]), ..Receipt::default() };
    let (_, replicas) = replicas(vec![Fake::new("one", &["i"], &["i:pin"]).then_put(Step::Answer(vec![Ok(pending)]))]);
    let placement = replicas.put(&envelopes(1, 1), PutOptions::default()).await.remove(0);
    assert_eq!(placement.stored(), 0);
    assert_eq!(placement.settle().expect("on its way").pending, places(&["i:pin"]));
}

fn page(count: usize, next: Option<&str>, more: bool) -> Step<talkbox_core::Result<Page>> {
    let items = envelopes(count, 1).iter().map(RawEnvelope::from).collect();
    Step::Answer(Ok(Page { items, next: next.map(|next| Cursor(next.to_owned())), more }))
}

#[tokio::test]
async fn everything_is_listed_and_failures_are_told_in_their_place() {
    let (_, replicas) = replicas(vec![
        Fake::new("one", &["n"], &["n:1"]).then_list(page(2, Some("a"), true)).then_list(page(1, Some("b"), false)),
        Fake::new("two", &["g"], &["g:2"])
            .then_list(page(3, Some("a"), true))
            .then_list(Step::Answer(error(ErrorKind::Unreachable))),
    ]);
    let mut items = 0;
    let mut failed = Vec::new();
    let mut listing = replicas.list_all(owner(), ListAllOptions::default());
    while let Some(listed) = listing.next().await {
        let listed = listed.expect("not all failed");
        match listed.page {
            Ok(page) => items += page.items.len(),
            Err(error) => failed.push((listed.member, listed.holder, error.kind())),
        }
    }
    assert_eq!(items, 6);
    assert_eq!(failed, [("two".to_owned(), locator("g:2"), ErrorKind::Unreachable)]);
}

#[tokio::test]
async fn when_no_holder_gives_anything_that_is_an_error() {
    let failing = |name, scheme, holder| {
        Fake::new(name, scheme, &[holder]).then_list(Step::Answer(error(ErrorKind::Unreachable)))
    };
    let (_, replicas) = replicas(vec![failing("one", &["n"], "n:1"), failing("two", &["g"], "g:2")]);
    let listed: Vec<_> = replicas.list_all(owner(), ListAllOptions::default()).collect().await;
    let [Ok(_), Ok(_), Err(failed)] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((failed.kind(), failed.context("failed")), (ErrorKind::Unreachable, Some("2")));
    assert!(Causes::of(failed).expect("causes").to_string().contains("g:2: "));
}

#[tokio::test]
async fn a_listing_that_does_not_end_is_ended() {
    let circle =
        Fake::new("one", &["n"], &["n:1"]).then_list(page(1, Some("a"), true)).then_list(page(1, Some("a"), true));
    let (circle, replicas_of_circle) = replicas(vec![circle]);
    let listed: Vec<_> = replicas_of_circle.list_all(owner(), ListAllOptions::default()).collect().await;
    let kinds: Vec<_> =
        listed.iter().map(|listed| listed.as_ref().expect("inline").page.as_ref().map_err(|e| e.kind())).collect();
    assert!(matches!(&kinds[..], [Ok(_), Ok(_), Err(ErrorKind::Unexpected)]), "{kinds:?}");
    assert_eq!(Calls::of(&circle[0].calls.list), 2);

    let mut empty = Fake::new("one", &["n"], &["n:1"]);
    for at in 0..200 {
        empty = empty.then_list(page(0, Some(&at.to_string()), true));
    }
    let (empty, replicas) = replicas(vec![empty]);
    let last = replicas.list_all(owner(), ListAllOptions::default()).collect::<Vec<_>>().await.pop().expect("an item");
    assert_eq!(last.expect("inline").page.expect_err("endless").kind(), ErrorKind::Unexpected);
    assert!(Calls::of(&empty[0].calls.list) < 100);
}

#[tokio::test]
async fn a_cursor_of_another_epoch_begins_again_once() {
    let (fakes, replicas) = replicas(vec![
        Fake::new("one", &["n"], &["n:1"])
            .then_list(Step::Answer(error(ErrorKind::NotFound)))
            .then_list(page(2, None, false)),
    ]);
    let options = ListAllOptions::default().after([(locator("n:1"), Cursor("old".to_owned()))]);
    let listed: Vec<_> = replicas.list_all(owner(), options).collect().await;
    let [Ok(listed)] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!(listed.page.as_ref().expect("a page").items.len(), 2);
    assert_eq!(Calls::of(&fakes[0].calls.list), 2);
}

#[tokio::test]
async fn every_holder_is_audited() {
    let (_, replicas) =
        replicas(vec![Fake::new("one", &["n"], &["n:1", "n:2"]), Fake::new("two", &["g"], &["g:3", "n:2"])]);
    let audited = replicas.audit(owner(), &[envelopes(1, 1)[0].id()], AuditOptions::default()).await;
    let holders: Vec<_> = audited.iter().map(|(holder, _)| holder.as_str()).collect();
    assert_eq!(holders, ["n:1", "n:2", "g:3"]);
}
