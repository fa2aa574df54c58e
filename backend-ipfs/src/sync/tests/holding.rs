//! `/talkbox/have/1`.

use std::{collections::HashMap, time::Duration};

use talkbox_core::{
    EnvelopeId, ErrorKind, HoldingState, ManualClock, Result, SecretKey, Timestamp, async_trait,
    custody::CustodyReceipt,
};
use tokio::time::sleep;

use super::support::{limits, pipe, short};
use crate::sync::{
    Limits,
    channel::Channel,
    have::{Have, Holdings, serve},
};

const NOW: Timestamp = Timestamp(1_800_000_000);

/// What is held until when.
#[derive(Debug)]
struct Held(HashMap<EnvelopeId, Timestamp>);

#[async_trait]
impl Holdings for Held {
    async fn held(&self, ids: Vec<EnvelopeId>) -> Result<Vec<Option<Timestamp>>> {
        Ok(ids.iter().map(|id| self.0.get(id).copied()).collect())
    }
}

fn id(number: u16) -> EnvelopeId {
    let mut bytes = [3; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    EnvelopeId::from_bytes(bytes)
}

fn key() -> SecretKey {
    SecretKey::generate().expect("randomness")
}

#[tokio::test]
async fn a_peer_says_what_it_holds_and_signs_it() {
    let node = key();
    // Every third, one of them no longer.
    let held: HashMap<_, _> =
        (0..600).step_by(3).map(|number| (id(number), NOW.plus(100 + u64::from(number)))).collect();
    let mut held = Held(held);
    held.0.insert(id(3), NOW);
    let (here, there) = pipe(512);
    let asking = async {
        let mut have = Have::new(here, node.public(), limits());
        let ids: Vec<_> = (0..600).map(id).collect();
        let states = have.ask(&ids, NOW).await.expect("answers");
        for (number, state) in (0_u16..).zip(&states) {
            match state {
                HoldingState::Held { until: Some(until) } => {
                    assert!(number % 3 == 0 && number != 3 && *until > NOW && *until <= held.0[&id(number)]);
                }
                _ => assert!(number % 3 != 0 || number == 3, "{number}"),
            }
        }
        // Over the same stream.
        let again = have.ask(&[id(1), id(2)], NOW).await.expect("answers");
        assert_eq!(again, [HoldingState::Absent; 2]);
        assert_eq!(have.ask(&[], NOW).await.expect("says nothing"), []);
        states.len()
    };
    let clock = ManualClock::new(NOW);
    let serving = serve(there, &held, &node, &clock, limits());
    let (asked, served) = tokio::join!(asking, serving);
    assert_eq!(asked, 600);
    served.expect("ends");
}

#[tokio::test]
async fn an_id_that_is_asked_twice_is_answered_twice_and_signed_once() {
    let node = key();
    let held = Held(HashMap::from([(id(1), NOW.plus(50))]));
    let (here, there) = pipe(512);
    let asking = async {
        let mut have = Have::new(here, node.public(), limits());
        have.ask(&[id(1), id(1)], NOW).await.expect("answers")
    };
    let clock = ManualClock::new(NOW);
    let (states, served) = tokio::join!(asking, serve(there, &held, &node, &clock, limits()));
    assert_eq!(states, [HoldingState::Held { until: Some(NOW.plus(50)) }; 2]);
    served.expect("ends");
}

#[tokio::test]
async fn a_receipt_that_does_not_hold_counts_for_nothing() {
    let (node, other) = (key(), key());
    let sign = |key: &SecretKey, ids: &[EnvelopeId], stored: Timestamp, until: Timestamp| {
        CustodyReceipt::sign(key, ids, stored, until).expect("signs").event().to_json()
    };
    let tampered = sign(&node, &[id(1)], NOW, NOW.plus(9)).replace(&id(1).to_hex(), &id(2).to_hex());
    for (answer, kind) in [
        (sign(&other, &[id(1)], NOW, NOW.plus(9)), ErrorKind::VerificationFailed),
        (sign(&node, &[id(1)], NOW, NOW), ErrorKind::VerificationFailed),
        (sign(&node, &[id(1)], NOW.plus(901), NOW.plus(999)), ErrorKind::VerificationFailed),
        (sign(&node, &[id(1), id(7)], NOW, NOW.plus(9)), ErrorKind::VerificationFailed),
        (tampered, ErrorKind::VerificationFailed),
        ("{}".to_owned(), ErrorKind::InvalidEnvelope),
        ("\u{0}".repeat(40_000), ErrorKind::TooLarge),
    ] {
        let (here, there) = pipe(65_536);
        let mut have = Have::new(here, node.public(), limits());
        let lying = async {
            let mut channel = Channel::new(there, limits().frame);
            channel.expect(8_192).await.expect("a question");
            channel.send(answer.as_bytes()).await.expect("answers");
        };
        let ids = [id(1), id(2)];
        let (asked, ()) = tokio::join!(have.ask(&ids, NOW), lying);
        assert_eq!(asked.expect_err("does not hold").kind(), kind, "{answer:.80}");
    }
}

#[tokio::test]
async fn questions_that_are_none_and_silence_end_the_stream() {
    let held = Held(HashMap::new());
    let clock = ManualClock::new(NOW);
    for (question, kind) in [
        (Some(vec![1; 31]), ErrorKind::Unexpected),
        (Some(Vec::new()), ErrorKind::Unexpected),
        (Some(vec![1; 257 * 32]), ErrorKind::TooLarge),
        (None, ErrorKind::Timeout),
    ] {
        let (here, there) = pipe(65_536);
        let mut channel = Channel::new(here, limits().frame);
        if let Some(question) = question {
            channel.send(&question).await.expect("asks");
        }
        let node = key();
        let served = serve(there, &held, &node, &clock, short()).await;
        assert_eq!(served.expect_err("ends").kind(), kind);
    }
}

/// How many questions are answered that come this often, each of so many ids, of sixty.
async fn answered(every: Duration, ids: usize) -> usize {
    let (held, node, clock) = (Held(HashMap::new()), key(), ManualClock::new(NOW));
    let (here, there) = pipe(65_536);
    let question: Vec<u8> = (0..ids).flat_map(|number| [u8::try_from(number).expect("few"); 32]).collect();
    let asking = async {
        let mut channel = Channel::new(here, Limits::default().frame);
        for asked in 0..60 {
            sleep(every).await;
            if channel.send(&question).await.is_err() || channel.expect(64).await.is_err() {
                return asked;
            }
        }
        60
    };
    tokio::join!(asking, serve(there, &held, &node, &clock, Limits::default())).0
}

#[tokio::test(start_paused = true)]
async fn questions_that_drip_end_the_stream_and_many_that_follow_one_another_do_not() {
    let dripping = answered(Duration::from_secs(7), 1).await;
    assert!((2..9).contains(&dripping), "{dripping} are answered");
    // From far away.
    assert_eq!(answered(Duration::from_secs(1), 256).await, 60);
}
