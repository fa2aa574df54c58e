//! Numbers that a seed decides.

use std::sync::Mutex;

use sha2::{Digest as _, Sha256};
use talkbox_backend_gossip::node::Randomness;
use talkbox_core::{Result, SecretKey};

/// SplitMix64: a few lines that give the same numbers in every version of everything.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// One for each use of a seed, so that a change in one place does not change all others.
    pub(crate) fn new(seed: u64, what: &str, number: usize) -> Self {
        let digest: [u8; 32] = Sha256::digest(format!("{seed}/{what}/{number}")).into();
        Self(u64::from_be_bytes(digest[..8].try_into().expect("8 bytes")))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From `least` to `most`, both included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it fits")
    }

    /// True in so many of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next().to_be_bytes()[0])
    }

    pub(crate) fn key(&mut self) -> SecretKey {
        SecretKey::from_bytes(&self.bytes()).expect("all but one in 2^128 numbers are keys")
    }
}

/// What a node gets for randomness.
#[derive(Debug)]
pub(crate) struct Seeded(Mutex<Rng>);

impl Seeded {
    pub(crate) const fn new(rng: Rng) -> Self {
        Self(Mutex::new(rng))
    }
}

impl Randomness for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        let mut rng = self.0.lock().expect("nobody panics here");
        bytes.fill_with(|| rng.next().to_be_bytes()[0]);
        Ok(())
    }
}
