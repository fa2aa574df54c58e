//! What sealing and opening cost, beside the curve and hash work that nobody can avoid and beside the `nostr` crate.
//!
//! `cargo bench -p talkbox-benches --bench envelope`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nostr::{
    event::Event,
    key::{Keys, PublicKey, SecretKey as NostrSecretKey},
    nips::{nip44::v2::ConversationKey, nip59::UnwrappedGift},
};
use secp256k1::{SECP256K1, XOnlyPublicKey, schnorr::Signature};
use sha2::{Digest as _, Sha256};
use talkbox_core::{
    Draft, Envelope, Opener, RawEnvelope, SealOptions, SecretKey, Shortcode, Timestamp, passphrase, seal,
};

const NOW: Timestamp = Timestamp(1_790_000_000);

struct Case {
    owner: SecretKey,
    sender: SecretKey,
    envelope: Envelope,
    seal: String,
}

fn case(bytes: usize) -> Case {
    let (owner, sender) = (SecretKey::generate().expect("randomness"), SecretKey::generate().expect("randomness"));
    let draft = Draft::text("a".repeat(bytes));
    let sealed = seal(&draft, &sender, owner.id(), NOW, &SealOptions::default()).expect("seals");
    Case { owner, sender, envelope: sealed.envelope, seal: sealed.seal }
}

fn envelopes(c: &mut Criterion) {
    for bytes in [200, 4000] {
        let case = case(bytes);
        let json = case.envelope.json().to_owned();
        let keys = Keys::new(NostrSecretKey::from_slice(&*case.owner.to_bytes()).expect("a key"));
        let event = Event::from_json(&json).expect("an event");
        let mut group = c.benchmark_group(format!("envelope/{bytes}"));
        group.throughput(Throughput::Elements(1));

        let signatures: Vec<_> = [&json, &case.seal]
            .into_iter()
            .map(|json| {
                let event = Event::from_json(json).expect("an event");
                (event.pubkey.to_bytes(), event.id.to_bytes(), event.sig)
            })
            .collect();
        let peers: Vec<PublicKey> = signatures.iter().map(|(key, ..)| PublicKey::from_byte_array(*key)).collect();
        let secret = NostrSecretKey::from_slice(&*case.owner.to_bytes()).expect("a key");
        // Two signatures, two shared keys, and the hashes over both texts: what nobody can leave out.
        group.bench_function("bare curve and hash work", |b| {
            b.iter(|| {
                for (key, id, sig) in &signatures {
                    let key = XOnlyPublicKey::from_slice(key).expect("a key");
                    let sig = Signature::from_slice(sig.as_ref()).expect("a signature");
                    SECP256K1.verify_schnorr(&sig, id, &key).expect("valid");
                }
                for peer in &peers {
                    black_box(ConversationKey::derive(&secret, peer).expect("a key"));
                }
                black_box(Sha256::digest(json.as_bytes()));
                black_box(Sha256::digest(case.seal.as_bytes()));
            });
        });
        group.bench_function("parse and open, new sender", |b| {
            b.iter(|| {
                let envelope = Envelope::parse(&json).expect("valid");
                Opener::new(case.owner.clone()).open(&envelope).expect("opens")
            });
        });
        group.bench_function("parse", |b| b.iter(|| Envelope::parse(&json).expect("valid")));
        group.bench_function("restore", |b| b.iter(|| Envelope::restore(&json).expect("valid")));
        let opener = Opener::new(case.owner.clone());
        group.bench_function("open, known sender", |b| b.iter(|| opener.open(&case.envelope).expect("opens")));
        group.bench_function("unwrap by the nostr crate", |b| {
            b.iter(|| UnwrappedGift::from_gift_wrap(&keys, &event).expect("unwraps"));
        });
        let draft = Draft::text("a".repeat(bytes));
        group.bench_function("seal", |b| {
            b.iter(|| seal(&draft, &case.sender, case.owner.id(), NOW, &SealOptions::default()).expect("seals"));
        });
        group.finish();
    }
}

fn many(c: &mut Criterion) {
    const MANY: usize = 10_000;
    let case = case(200);
    let draft = Draft::text("a".repeat(200));
    let raw: Vec<RawEnvelope> = (0..MANY)
        .map(|_| {
            let sealed = seal(&draft, &case.sender, case.owner.id(), NOW, &SealOptions::default()).expect("seals");
            RawEnvelope::from(&sealed.envelope)
        })
        .collect();
    let mut group = c.benchmark_group("envelope/many");
    group.sample_size(10).throughput(Throughput::Elements(MANY as u64));
    group.bench_function("verify and open 10,000 on all cores", |b| {
        b.iter(|| {
            let envelopes: Vec<Envelope> =
                Envelope::verify_many(&raw).into_iter().map(|envelope| envelope.expect("valid")).collect();
            Opener::new(case.owner.clone()).open_many(&envelopes)
        });
    });
    group.bench_function("verify and open 10,000 on one", |b| {
        b.iter(|| {
            let opener = Opener::new(case.owner.clone());
            for raw in &raw {
                opener.open(&Envelope::verify(raw).expect("valid")).expect("opens");
            }
        });
    });
    group.finish();
}

fn keys(c: &mut Criterion) {
    let id = SecretKey::generate().expect("randomness").id();
    let code = Shortcode::of(&id);
    let mut group = c.benchmark_group("keys");
    group.sample_size(10);
    group.bench_function("shortcode of a key", |b| b.iter(|| Shortcode::of(&id)));
    group.bench_function("shortcode read", |b| b.iter(|| Shortcode::parse(&code.to_string()).expect("a code")));
    group.bench_function("key from a passphrase", |b| {
        b.iter(|| passphrase::derive("correct horse battery staple orbit velvet harbor nine", "tips").expect("a key"));
    });
    group.bench_function("key generated", |b| b.iter(|| SecretKey::generate().expect("randomness")));
    group.finish();
}

criterion_group!(benches, envelopes, many, keys);
criterion_main!(benches);
