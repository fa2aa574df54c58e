//! Links: CIDs as the library writes them, which is as text in base58btc, `zdpu…`.
//!
//! An entry has up to 33 of them, so reading them is a part of what an entry costs. The text of a CID that we meet has
//! one length, and the 36 bytes behind it are nine words: hence a reader of our own, six times as fast as the general
//! one. Writing would gain nothing.

use cid::multibase::Base;

use super::{Cid, DAG_CBOR, SHA2_256, cid_of_digest};

/// Version, codec, hash and length of a digest, as they stand before the digest.
const PREFIX: [u8; 4] = [1, DAG_CBOR as u8, SHA2_256 as u8, 32];
/// Bytes of such a CID, also as 32-bit words.
const BYTES: usize = 36;
const WORDS: usize = BYTES / 4;
/// Digits of base 58 in such a CID: with this prefix there are always as many.
const DIGITS: usize = 48;
/// As many digits as fit into a word at once. The 48 digits are not a multiple of it, so three come first.
const AT_ONCE: usize = 5;
const FIRST: usize = DIGITS % AT_ONCE;
/// The multibase prefix of base58btc.
const BASE: u8 = b'z';

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const NONE: u8 = 0xff;
static VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// The text of a CID in base58btc.
pub(crate) fn to_text(cid: &Cid) -> String {
    // Only CIDs of version 0 have no choice of a base, and they have this one.
    cid.to_string_of_base(Base::Base58Btc).unwrap_or_else(|_| cid.to_string())
}

/// Reads a link: CIDv1, dag-cbor, sha2-256, base58btc. `None` for everything else.
///
/// The library takes any CID here. But it asks for what it names until it comes under exactly this text, which
/// another codec, version or base never does: it waits for ever, and so nothing that names such a link is ever joined.
pub(crate) fn parse(text: &str) -> Option<Cid> {
    let (base, digits) = text.as_bytes().split_first()?;
    if *base != BASE || digits.len() != DIGITS {
        return None;
    }
    let (first, others) = digits.split_at(FIRST);
    let mut words = [0; WORDS];
    for some in std::iter::once(first).chain(others.chunks_exact(AT_ONCE)) {
        let (mut count, mut sum) = (1, 0);
        for digit in some {
            let value = VALUES[usize::from(*digit)];
            if value == NONE {
                return None;
            }
            count *= 58;
            sum = sum * 58 + u64::from(value);
        }
        for word in words.iter_mut().rev() {
            let all = u64::from(*word) * count + sum;
            *word = all as u32;
            sum = all >> 32;
        }
        if sum != 0 {
            return None;
        }
    }
    let mut bytes = [0; BYTES];
    for (four, word) in bytes.chunks_exact_mut(4).zip(words) {
        four.copy_from_slice(&word.to_be_bytes());
    }
    let (prefix, digest) = bytes.split_first_chunk()?;
    (*prefix == PREFIX).then(|| digest.try_into().ok().map(|digest| cid_of_digest(&digest)))?
}

#[cfg(test)]
mod tests {
    use cid::multihash::Multihash;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_general_implementation_agrees(digest in any::<[u8; 32]>()) {
            let cid = cid_of_digest(&digest);
            let text = to_text(&cid);
            prop_assert_eq!(Cid::try_from(text.as_str()).expect("a CID"), cid);
            prop_assert_eq!(parse(&text), Some(cid));
        }

        #[test]
        fn whatever_is_read_is_written_so(text in "z[1-9A-HJ-NP-Za-km-z]{48}|zdpu[1-9A-HJ-NP-Za-km-z]{45}|.*") {
            if let Some(cid) = parse(&text) {
                prop_assert_eq!(to_text(&cid), text);
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_are_read() {
        for digest in [[0; 32], [0xff; 32]] {
            let cid = cid_of_digest(&digest);
            assert_eq!(parse(&to_text(&cid)), Some(cid));
        }
    }

    #[test]
    fn other_cids_are_written_and_not_read() {
        let cid = cid_of_digest(&[7; 32]);
        let long = Multihash::wrap(0x13, &[7; 64]).expect("64 bytes fit");
        for other in [Cid::new_v1(0x55, *cid.hash()), Cid::new_v1(0x0200, *cid.hash()), Cid::new_v1(DAG_CBOR, long)] {
            let text = to_text(&other);
            assert_eq!(Cid::try_from(text.as_str()).expect("a CID"), other);
            assert_eq!(parse(&text), None);
        }
        let text = to_text(&cid);
        for wrong in [
            &text[1..],
            &text.replace('z', "Z"),
            &cid.to_string(),
            &format!("{text}1"),
            &format!("z1{}", &text[1..]),
            "",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse(&format!("z{}", "z".repeat(DIGITS))), None, "over 36 bytes");
    }
}
