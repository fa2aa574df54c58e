//! What sealing and opening cost, beside the curve and hash work that nobody can avoid and beside the `nostr` crate.
//!
//! `cargo bench -p talkbox-benches --bench envelope`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nostr::{
    event::Event,
    key::{Keys, SecretKey as NostrSecretKey},
    nips::nip59::UnwrappedGift,
};
use talkbox_benches::Bare;
use talkbox_core::{
    Draft, Envelope, Opener, RawEnvelope, SealOptions, SecretKey, Shortcode, Timestamp, passphrase, seal, seal::Sealed,
};

const NOW: Timestamp = Timestamp(1_790_000_000);

struct Case {
    owner: SecretKey,
    sender: SecretKey,
    sealed: Sealed,
}

fn case(bytes: usize) -> Case {
    let (owner, sender) = (SecretKey::generate().expect("randomness"), SecretKey::generate().expect("randomness"));
    let draft = Draft::text("a".repeat(bytes));
    let sealed = seal(&draft, &sender, owner.id(), NOW, &SealOptions::default()).expect("seals");
    Case { owner, sender, sealed }
}

fn envelopes(c: &mut Criterion) {
    for bytes in [200, 4000] {
        let case = case(bytes);
        let json = case.sealed.envelope.json().to_owned();
        let keys = Keys::new(NostrSecretKey::from_slice(&*case.owner.to_bytes()).expect("a key"));
        let event = Event::from_json(&json).expect("an event");
        let mut group = c.benchmark_group(format!("envelope/{bytes}"));
        group.throughput(Throughput::Elements(1));

        let bare = Bare::new(&case.sealed, &case.owner);
        group.bench_function("bare curve and hash work", |b| b.iter(|| bare.run()));
        group.bench_function("parse and open, new sender", |b| {
            b.iter(|| {
                let envelope = Envelope::parse(&json).expect("valid");
                Opener::new(case.owner.clone()).open(&envelope).expect("opens")
            });
        });
        group.bench_function("parse", |b| b.iter(|| Envelope::parse(&json).expect("valid")));
        group.bench_function("restore", |b| b.iter(|| Envelope::restore(&json).expect("valid")));
        let opener = Opener::new(case.owner.clone());
        group.bench_function("open, known sender", |b| b.iter(|| opener.open(&case.sealed.envelope).expect("opens")));
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
