//! How peers that keep a mailbox are found in the DHT: each announces that it provides a block that nobody has, whose
//! name follows from the mailbox, or from its code. Anybody may claim that; what is served is checked.

use libp2p::kad::RecordKey;
use sha2::{Digest as _, Sha256};
use talkbox_core::{MailboxId, Shortcode};

/// The multihash of SHA-256: its code and its length.
const SHA2_256: [u8; 2] = [0x12, 0x20];

/// The key of a mailbox.
pub(crate) fn of_mailbox(mailbox: &MailboxId) -> RecordKey {
    key(b"talkbox/1/id/", mailbox.as_bytes())
}

/// The key of a code.
pub(crate) fn of_code(code: &Shortcode) -> RecordKey {
    key(b"talkbox/1/code/", code.symbols().as_bytes())
}

/// The DHT knows blocks by the multihash of their CID, here that of CIDv1, raw, SHA-256.
fn key(what: &[u8], name: &[u8]) -> RecordKey {
    let digest = Sha256::new().chain_update(what).chain_update(name).finalize();
    RecordKey::new(&[&SHA2_256[..], &digest[..]].concat())
}

#[cfg(test)]
mod tests {
    use talkbox_core::hex;

    use super::*;

    #[test]
    fn keys_follow_from_what_is_looked_for() {
        let mailbox = MailboxId::from_bytes([7; 32]);
        let code = Shortcode::of(&mailbox);
        assert_ne!(of_mailbox(&mailbox), of_code(&code));
        // printf 'talkbox/1/id/\7\7…' | sha256sum
        let digest = Sha256::digest([&b"talkbox/1/id/"[..], &[7; 32]].concat());
        assert_eq!(hex::encode(of_mailbox(&mailbox).as_ref()), format!("1220{}", hex::encode(&digest)));
    }
}
