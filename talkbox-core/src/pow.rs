//! Proof of work on events (NIP-13): a brake against floods, not a wall.

use sha2::{Digest, Sha256};

use crate::{
    Error, ErrorKind, PublicKey, Result,
    clock::Timestamp,
    event::{self, Tag},
    id::EventId,
};

/// Most bits that anything of ours will mine: about half a minute to a few minutes on one core.
pub const MAX_BITS: u8 = 26;

/// Stands where the nonce goes while the rest is written. Its last place in the text is the right one: what comes
/// after the tags is base64 or nothing.
const SLOT: &str = "{nonce}";

/// The number of leading zero bits.
pub fn leading_zero_bits(id: &[u8; 32]) -> u8 {
    let bits = id.iter().take_while(|byte| **byte == 0).count() * 8;
    let rest = id.get(bits / 8).map_or(0, |byte| byte.leading_zeros() as usize);
    u8::try_from(bits + rest).unwrap_or(u8::MAX)
}

/// The work that an id shows, if its `nonce` tag commits to it. Work without a commitment counts as none: a spammer
/// who mines many ids for a low target gets a high one by luck.
pub fn bits_of<S: AsRef<str>>(id: &EventId, tags: &[Vec<S>]) -> u8 {
    committed_bits(tags).map_or(0, |target| target.min(leading_zero_bits(id.as_bytes())))
}

/// The target that a `nonce` tag commits to.
pub(crate) fn committed_bits<S: AsRef<str>>(tags: &[Vec<S>]) -> Option<u8> {
    tags.iter()
        .find(|tag| tag[0].as_ref() == "nonce")
        .and_then(|tag| tag.get(2))
        .and_then(|bits| bits.as_ref().parse().ok())
}

/// Finds a `nonce` tag that gives the event this much work, and appends it. 0 bits append nothing.
///
/// # Errors
/// `Refused` for more than [`MAX_BITS`].
pub(crate) fn mine(
    author: &PublicKey,
    created_at: Timestamp,
    kind: u16,
    tags: &mut Vec<Tag>,
    content: &str,
    bits: u8,
) -> Result<()> {
    if bits == 0 {
        return Ok(());
    }
    if bits > MAX_BITS {
        return Err(Error::new(ErrorKind::Refused, "the mailbox asks for more work than this program does")
            .with("bits", bits)
            .with("limit", MAX_BITS));
    }
    // All that comes before the nonce is hashed once: an attempt on an event without content is one or two blocks.
    tags.push(vec!["nonce".to_owned(), SLOT.to_owned(), bits.to_string()]);
    let text = event::id_preimage(author, created_at, kind, tags, content);
    let at = text.rfind(SLOT).unwrap_or_default();
    let (before, after) = (Sha256::new_with_prefix(&text[..at]), &text[at + SLOT.len()..]);
    let nonce = (0_u64..).map(|attempt| attempt.to_string()).find(|nonce| {
        let digest = before.clone().chain_update(nonce).chain_update(after).finalize();
        leading_zero_bits(&digest.into()) >= bits
    });
    if let (Some(tag), Some(nonce)) = (tags.last_mut(), nonce) {
        tag[1] = nonce;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_over_byte_borders() {
        let mut id = [0xff; 32];
        assert_eq!(leading_zero_bits(&id), 0);
        id[0] = 0;
        id[1] = 0x1f;
        assert_eq!(leading_zero_bits(&id), 11);
        assert_eq!(leading_zero_bits(&[0; 32]), 255);
    }

    #[test]
    fn mined_work_is_committed_and_counts_no_more_than_that() {
        let author = PublicKey::from_bytes([7; 32]);
        let mut tags = vec![];
        mine(&author, Timestamp(1), 1, &mut tags, "x", 8).expect("few bits");
        let id = event::id_of(&author, Timestamp(1), 1, &tags, "x");
        assert_eq!(bits_of(&id, &tags), 8);
        assert_eq!(bits_of::<String>(&id, &[]), 0);
        assert!(mine(&author, Timestamp(1), 1, &mut vec![], "x", 60).is_err());
    }
}
