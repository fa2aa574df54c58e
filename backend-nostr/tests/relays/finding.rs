//! Records and hints: publish, resolve, notify, subscribe.

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;
use talkbox_core::{
    Error, ErrorKind, Hint, Level, Locator, MailboxRecord, NotifyOptions, PublishOptions, RawRecord, RecordFields,
    ResolveOptions, SecretKey, Shortcode, SubscribeOptions, Target,
    event::{Event, kind},
};

use crate::{
    hostile::{Reads, Relay, Script, Writes},
    support::{NOW, holder, key, mailbox, open, open_with, soon, transport},
};

fn record(key: &SecretKey) -> MailboxRecord {
    let locators = vec![holder("wss://relay.example")];
    MailboxRecord::sign(key, Shortcode::of(&key.id()), RecordFields::new(locators), NOW).expect("signs")
}

async fn resolve(backend: &talkbox_core::Backend, target: Target, hints: Vec<Locator>) -> (Vec<RawRecord>, Vec<Error>) {
    let stream = transport(backend).resolve(&target, ResolveOptions::default().hints(hints));
    let all: Vec<_> = soon(stream.collect()).await;
    let (answers, errors): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    let found = answers.into_iter().filter_map(|answer| answer.expect("an answer").into_record()).collect();
    (found, errors.into_iter().map(Result::unwrap_err).collect())
}

#[tokio::test]
async fn a_record_is_found_by_code_and_by_key_on_every_relay() {
    let (one, other) = (Relay::honest().await, Relay::honest().await);
    let backend = open(&[&one.url, &other.url]).await;
    let owner = key();
    let record = record(&owner);
    let inbox =
        Event::sign(&owner, NOW, kind::INBOX_RELAYS, vec![vec!["relay".to_owned(), one.url.clone()]], String::new());
    let options = PublishOptions::default().inbox_relays(Some(inbox.clone()));
    let receipt = transport(&backend).publish(&record, options).await.expect("published");
    assert!(receipt.acks.len() == 2 && receipt.acks.iter().all(|ack| ack.level == Level::Stored));
    assert!(one.ids().contains(&inbox.id().to_hex()) && other.ids().contains(&inbox.id().to_hex()));

    let (found, errors) = resolve(&backend, Target::Code(record.code()), Vec::new()).await;
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|found| MailboxRecord::parse(&found.json).is_ok_and(|found| found == record)));

    // A key is also asked for where it reads its direct messages: it may be no mailbox of ours.
    let (found, errors) = resolve(&backend, Target::Mailbox(owner.id()), Vec::new()).await;
    assert!(errors.is_empty(), "{errors:?}");
    let of = |event: &Event| {
        found.iter().filter(|found| Event::parse(&found.json).is_ok_and(|found| found == *event)).count()
    };
    assert_eq!((found.len(), of(record.event()), of(&inbox)), (4, 2, 2));
    let (found, errors) = resolve(&backend, Target::Mailbox(key().id()), Vec::new()).await;
    assert!(found.is_empty() && errors.is_empty());
}

#[tokio::test]
async fn squatters_are_passed_on_and_do_not_hide_the_record() {
    let relay = Relay::scripted(Script { cap: Some(20), ..Script::default() }).await;
    let backend = open(&[&relay.url]).await;
    let owner = key();
    let record = record(&owner);
    relay.plant(&record.event().to_json());
    for number in 0..45_u64 {
        let tags = vec![vec!["d".to_owned(), record.code().symbols().to_owned()]];
        let at = NOW.plus(number / 10);
        relay.plant(&Event::sign(&key(), at, kind::RECORD, tags, String::new()).to_json());
    }
    let (found, errors) = resolve(&backend, Target::Code(record.code()), Vec::new()).await;
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(found.len(), 46);
    assert!(found.iter().any(|found| MailboxRecord::parse(&found.json).is_ok_and(|found| found == record)));
}

#[tokio::test]
async fn one_relay_in_trouble_is_an_error_beside_the_others_answers() {
    let owner = key();
    let record = record(&owner);
    for reads in [Reads::Never, Reads::Closed("error: no"), Reads::CloseAfter(0), Reads::NeverEose, Reads::Flood] {
        let (good, bad) = (Relay::honest().await, Relay::scripted(Script { reads, ..Script::default() }).await);
        good.plant(&record.event().to_json());
        bad.plant(&record.event().to_json());
        let backend = open_with(&[&bad.url, &good.url], 300, talkbox_core::ManualClock::new(NOW), false).await;
        let (found, errors) = resolve(&backend, Target::Code(record.code()), Vec::new()).await;
        assert!(found.iter().any(|found| found.source == holder(&good.url)));
        assert!(errors.iter().all(|error| error.context("relay") == Some(&bad.url)), "{errors:?}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_dropped() {
    let owner = key();
    let record = record(&owner);
    let invented = vec![
        json!({ "id": "00".repeat(32), "pubkey": "00".repeat(32), "created_at": 5, "kind": 1, "tags": [], "content": "", "sig": "" }),
        serde_json::from_str(&self::record(&key()).event().to_json()).expect("JSON"),
        json!("not an event"),
    ];
    let relay = Relay::scripted(Script { reads: Reads::Invent(invented), ..Script::default() }).await;
    let backend = open(&[&relay.url]).await;
    let (found, errors) = resolve(&backend, Target::Code(record.code()), Vec::new()).await;
    assert!(found.is_empty() && errors.is_empty(), "{found:?} {errors:?}");
}

#[tokio::test]
async fn relays_that_an_address_names_are_asked_where_they_may_be() {
    let (configured, named) = (Relay::honest().await, Relay::honest().await);
    let owner = key();
    named.plant(&record(&owner).event().to_json());
    let clock = talkbox_core::ManualClock::new(NOW);
    for (allow_private, expected) in [(true, 1), (false, 0)] {
        let backend = open_with(&[&configured.url], 2_000, clock.clone(), allow_private).await;
        let hints = vec![holder(&named.url), "gossip:https://node.example".parse().expect("a locator")];
        let (found, errors) = resolve(&backend, Target::Mailbox(owner.id()), hints).await;
        // The record, and the list of inbox relays: each question is refused by itself.
        assert_eq!((found.len(), errors.len()), (expected, 2 * (1 - expected)));
        assert!(errors.iter().all(|error| error.kind() == ErrorKind::Unreachable && !error.is_retryable()));
    }
    assert_eq!(named.connections(), 1);
}

#[tokio::test]
async fn a_hint_reaches_who_listens_and_forgeries_do_not() {
    let relay = Relay::honest().await;
    let backend = open(&[&relay.url]).await;
    let owner = key();
    let mut hints = transport(&backend).subscribe(owner.id(), SubscribeOptions::default());
    let real = Hint::sign(owner.id(), &["head".to_owned()], NOW).expect("signs");
    let forged = real.event().to_json().replace("head\",\"head", "head\",\"tail");
    // The same forged event twice, under the id of the real one, before it.
    relay.plant(&forged);
    relay.plant(&forged);
    relay.plant(&Hint::sign(key().id(), &[], NOW).expect("signs").event().to_json());
    relay.plant(&real.event().to_json());
    relay.plant(&real.event().to_json());
    assert_eq!(soon(hints.try_next()).await.expect("no trouble"), Some(real));
    let next = Hint::sign(owner.id(), &[], NOW).expect("signs");
    transport(&backend).notify(&next, NotifyOptions::default()).await.expect("told");
    assert_eq!(soon(hints.try_next()).await.expect("no trouble"), Some(next));
    backend.close().await;
    assert!(soon(hints.next()).await.is_none_or(|hint| hint.is_err()));
}

#[tokio::test]
async fn a_hint_that_nobody_takes_is_an_error_and_silence_is_none() {
    let silent = Relay::scripted(Script { writes: Writes::Never, ..Script::default() }).await;
    let refusing = Relay::scripted(Script { writes: Writes::Refuse("blocked: kind"), ..Script::default() }).await;
    let hint = Hint::sign(key().id(), &[], NOW).expect("signs");
    let backend = open_with(&[&silent.url], 200, talkbox_core::ManualClock::new(NOW), false).await;
    transport(&backend).notify(&hint, NotifyOptions::default()).await.expect("it was sent");
    let backend = open(&[&refusing.url]).await;
    let error = transport(&backend).notify(&hint, NotifyOptions::default()).await.expect_err("refused");
    assert_eq!((error.kind(), error.message()), (ErrorKind::Refused, "blocked: kind"));
}

#[tokio::test]
async fn one_half_goes_on_when_the_other_is_closed() {
    let relay = Relay::honest().await;
    let backend = open(&[&relay.url]).await;
    mailbox(&backend).close().await;
    transport(&backend).publish(&record(&key()), PublishOptions::default()).await.expect("published");
    transport(&backend).close().await;
    let error = transport(&backend).publish(&record(&key()), PublishOptions::default()).await.expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
}
