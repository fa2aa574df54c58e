//! Fingerprints, and the sums of ids that they are the hash of.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::message::Varint;
use crate::{EventId, hex};

/// The sum of some ids, each read as a little-endian number, modulo 2^256.
///
/// What was added can be taken out again, in any order: so a sum is kept up to date and never counted anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    low: u128,
    high: u128,
}

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self { low: 0, high: 0 };

    /// This id alone.
    pub fn of(id: &EventId) -> Self {
        let (low, high) = id.as_bytes().split_at(16);
        let number = |half: &[u8]| half.try_into().map(u128::from_le_bytes).expect("half of 32 bytes are 16");
        Self { low: number(low), high: number(high) }
    }

    /// This and another.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        let (low, carry) = self.low.overflowing_add(other.low);
        Self { low, high: self.high.wrapping_add(other.high).wrapping_add(carry as u128) }
    }

    /// This without another.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        let (low, borrow) = self.low.overflowing_sub(other.low);
        Self { low, high: self.high.wrapping_sub(other.high).wrapping_sub(borrow as u128) }
    }

    /// The fingerprint of so many ids with this sum.
    pub fn fingerprint(self, count: usize) -> Fingerprint {
        let mut hash = Sha256::new();
        hash.update(self.low.to_le_bytes());
        hash.update(self.high.to_le_bytes());
        hash.update(Varint::of(count as u64).bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let mut bytes = [0; Fingerprint::BYTES];
        bytes.copy_from_slice(&hash[..Fingerprint::BYTES]);
        Fingerprint(bytes)
    }
}

impl<'a> FromIterator<&'a EventId> for Sum {
    fn from_iter<I: IntoIterator<Item = &'a EventId>>(ids: I) -> Self {
        ids.into_iter().fold(Self::default(), |sum, id| sum.plus(Self::of(id)))
    }
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), Self::plus)
    }
}

/// What says with 16 bytes which ids a range holds: the first half of the SHA-256 of their sum and their number.
///
/// It finds what was lost by accident. Ids are hashes, but a sum is not: whoever makes very many events for that can find
/// some that hide a difference. So equal fingerprints are no proof against somebody who works for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; Self::BYTES]);

impl Fingerprint {
    /// Bytes of one.
    pub const BYTES: usize = 16;

    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", hex::encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carry_goes_through_and_the_last_is_dropped() {
        let mut ones = [0xff; 32];
        let mut one = [0; 32];
        one[0] = 1;
        let [all, unit] = [ones, one].map(|id| Sum::of(&EventId::from_bytes(id)));
        assert_eq!(all.plus(unit), Sum::default());
        assert_eq!(Sum::default().minus(unit), all);
        ones[16..].fill(0);
        one.rotate_right(16);
        let [low, seventeenth] = [ones, one].map(|id| Sum::of(&EventId::from_bytes(id)));
        assert_eq!(low.plus(unit), seventeenth);
        assert_eq!(seventeenth.minus(unit), low);
    }

    /// By `printf '%064x00' 0 | xxd -r -p | sha256sum`.
    #[test]
    fn the_fingerprint_of_nothing() {
        assert_eq!(
            Sum::default().fingerprint(0).as_bytes(),
            &[0x7f, 0x9c, 0x9e, 0x31, 0xac, 0x82, 0x56, 0xca, 0x2f, 0x25, 0x85, 0x83, 0xdf, 0x26, 0x2d, 0xbc]
        );
    }
}
