//! Events, signed before anything is measured.

use std::{num::NonZero, thread};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use talkbox_core::{
    Clock as _, SecretKey, SystemClock, Timestamp,
    event::{Event, kind},
};

/// Mailboxes that they are for, in turn.
pub(crate) const MAILBOXES: usize = 1_000;
/// Bytes of content before base64, which makes 900 characters of them: the event has 1,317 bytes.
const CONTENT: usize = 675;
/// Gift wraps are dated back by up to two days.
const BACK: u64 = 172_800;

/// The mailboxes.
pub(crate) struct Supply {
    pub(crate) mailboxes: Vec<SecretKey>,
    now: Timestamp,
}

impl Supply {
    pub(crate) fn new() -> Self {
        Self { mailboxes: (0..MAILBOXES).map(|_| key()).collect(), now: SystemClock.now() }
    }

    /// So many new gift wraps, each of a key of its own; one for each mailbox in turn.
    pub(crate) fn take(&self, count: usize) -> Vec<String> {
        self.sign(count, |number| number % MAILBOXES)
    }

    /// So many for one mailbox.
    pub(crate) fn take_for(&self, mailbox: usize, count: usize) -> Vec<String> {
        self.sign(count, |_| mailbox)
    }

    /// Events like these whose signature is that of another one.
    pub(crate) fn forge(&self, count: usize) -> Vec<String> {
        let spoil = |json: String| {
            // The last digit of the signature; what is there already would be no forgery.
            let end = json.len() - 3;
            let digit = if json.as_bytes()[end] == b'0' { "1" } else { "0" };
            format!("{}{digit}{}", &json[..end], &json[end + 1..])
        };
        self.take(count).into_iter().map(spoil).collect()
    }

    fn sign(&self, count: usize, mailbox: impl Fn(usize) -> usize + Sync) -> Vec<String> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let (each, mailbox) = (count.div_ceil(threads), &mailbox);
        thread::scope(|scope| {
            let part = |thread: usize| thread * each..count.min((thread + 1) * each);
            let parts: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || part(thread).map(|n| self.event(mailbox(n))).collect::<Vec<_>>()))
                .collect();
            parts.into_iter().flat_map(|part| part.join().expect("no panic")).collect()
        })
    }

    fn event(&self, mailbox: usize) -> String {
        let author = key();
        let mut noise = Noise::of(&author);
        let content: Vec<u8> = (0..CONTENT).map(|_| noise.next() as u8).collect();
        let created_at = self.now.minus(noise.next() % BACK);
        let tags = vec![vec!["p".to_owned(), self.mailboxes[mailbox].id().to_hex()]];
        Event::sign(&author, created_at, kind::GIFT_WRAP, tags, STANDARD.encode(content)).to_json()
    }
}

/// A new key.
pub(crate) fn key() -> SecretKey {
    SecretKey::generate().expect("randomness")
}

/// What looks like ciphertext to whoever compresses it (splitmix64).
struct Noise(u64);

impl Noise {
    fn of(key: &SecretKey) -> Self {
        let bytes = key.to_bytes();
        Self(u64::from_le_bytes(bytes[..8].try_into().expect("8 of 32 bytes")))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
