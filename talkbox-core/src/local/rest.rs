//! Sealing at rest (`docs/formats.md` §1a): XChaCha20-Poly1305 under a key of the store.

use std::fmt;

use chacha20poly1305::{
    Tag, XChaCha20Poly1305, XNonce,
    aead::{AeadInPlace, KeyInit},
};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result, random, sqlite::damaged};

const KEY_INFO: &[u8] = b"talkbox/v1/rest";
const TAG_INFO: &[u8] = b"talkbox/v1/rest/tag";
const NONCE: usize = 24;
const MAC: usize = 16;

/// The key of one store: 32 random bytes, kept by the caller as a mailbox secret is.
#[derive(Clone)]
pub struct StoreKey(Zeroizing<[u8; 32]>);

impl StoreKey {
    /// A new one, from the operating system.
    ///
    /// # Errors
    /// `Unexpected` where it has no randomness to give.
    pub fn generate() -> Result<Self> {
        Ok(Self(Zeroizing::new(random::bytes()?)))
    }

    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes, to be kept.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(…)")
    }
}

/// Seals and opens rows. The keys are expanded once.
pub(super) struct Rest {
    cipher: XChaCha20Poly1305,
    tags: Hkdf<Sha256>,
}

impl Rest {
    pub(super) fn new(key: &StoreKey) -> Self {
        let root = Hkdf::<Sha256>::new(None, &*key.0);
        let expand = |info| {
            let mut bytes = Zeroizing::new([0; 32]);
            root.expand(info, &mut *bytes).expect("HKDF gives 32 bytes, which is less than 255 hashes");
            bytes
        };
        Self {
            cipher: XChaCha20Poly1305::new((&*expand(KEY_INFO)).into()),
            tags: Hkdf::from_prk(&*expand(TAG_INFO)).expect("32 bytes are a key of HKDF-SHA256"),
        }
    }

    /// Nonce, ciphertext and MAC. The row that it is for is authenticated: moved to another, it does not open.
    pub(super) fn seal(&self, table: &str, row: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let nonce: [u8; NONCE] = random::bytes()?;
        let mut sealed = Vec::with_capacity(NONCE + plain.len() + MAC);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let mac = self
            .cipher
            .encrypt_in_place_detached(XNonce::from_slice(&nonce), &place(table, row), &mut sealed[NONCE..])
            .map_err(|_| Error::new(ErrorKind::TooLarge, "too large to be sealed at rest"))?;
        sealed.extend_from_slice(&mac);
        Ok(sealed)
    }

    /// What was sealed for this row.
    ///
    /// # Errors
    /// `Storage` where the row is damaged, or was sealed for another or with another key.
    pub(super) fn open(&self, table: &'static str, row: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE).ok_or_else(|| damaged(table))?;
        let at = rest.len().checked_sub(MAC).ok_or_else(|| damaged(table))?;
        let (ciphertext, mac) = rest.split_at(at);
        let mut plain = Zeroizing::new(ciphertext.to_vec());
        self.cipher
            .decrypt_in_place_detached(XNonce::from_slice(nonce), &place(table, row), &mut plain, Tag::from_slice(mac))
            .map_err(|_| damaged(table))?;
        Ok(plain)
    }

    /// A name to look something up by that does not say what it is.
    pub(super) fn tag(&self, table: &str, value: &[u8]) -> [u8; 16] {
        let mut tag = [0; 16];
        self.tags.expand(&place(table, value), &mut tag).expect("HKDF gives 16 bytes, which is less than 255 hashes");
        tag
    }
}

/// table ‖ 00 ‖ row id.
fn place(table: &str, row: &[u8]) -> Vec<u8> {
    [table.as_bytes(), &[0], row].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of `docs/formats.md` §1a. It was computed from that text alone, by a Python program with the
    /// XChaCha20-Poly1305 of libsodium and HKDF by hand.
    #[test]
    fn the_example_of_the_formats_holds() {
        let key: Vec<u8> = (0..32).collect();
        let rest = Rest::new(&StoreKey::from_bytes(key.try_into().expect("32 bytes")));
        let sealed: [u8; 63] = crate::hex::decode_lower(concat!(
            "404142434445464748494a4b4c4d4e4f5051525354555657",
            "c9e5f4661ace5ba4b870147b7a06b219cfd1acf580532a",
            "85f114cf1d2298823d84571290abf336",
        ))
        .expect("digits");
        let row = [[0x11; 32], [0x22; 32]].concat();
        let plain = rest.open("messages", &row, &sealed).expect("opens");
        assert_eq!(**plain, *"the quick brown fox ☂".as_bytes());
        let tag = rest.tag("pins", b"F12TWYXSDNW8QCK54PDT");
        assert_eq!(crate::hex::encode(&tag), "af529756b84577f3aa797231ea2ac14f");
    }

    #[test]
    fn a_row_opens_in_its_place_alone() {
        let rest = Rest::new(&StoreKey::from_bytes([1; 32]));
        let sealed = rest.seal("messages", b"one", b"secret").expect("seals");
        assert_eq!(**rest.open("messages", b"one", &sealed).expect("opens"), *b"secret");
        assert!(rest.open("messages", b"two", &sealed).is_err());
        assert!(rest.open("outbox", b"one", &sealed).is_err());
        assert!(Rest::new(&StoreKey::from_bytes([2; 32])).open("messages", b"one", &sealed).is_err());
        assert_ne!(sealed, rest.seal("messages", b"one", b"secret").expect("seals"), "the nonce is fresh");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let rest = Rest::new(&StoreKey::from_bytes([1; 32]));
        let sealed = rest.seal("t", b"r", b"x").expect("seals");
        for bit in 0..sealed.len() * 8 {
            let mut rotten = sealed.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(rest.open("t", b"r", &rotten).expect_err("rotten").kind(), ErrorKind::Storage);
        }
        for length in 0..sealed.len() {
            assert!(rest.open("t", b"r", &sealed[..length]).is_err());
        }
    }

    #[test]
    fn a_tag_is_a_keyed_hash() {
        let rest = Rest::new(&StoreKey::from_bytes([1; 32]));
        assert_eq!(rest.tag("pins", b"a"), rest.tag("pins", b"a"));
        assert_ne!(rest.tag("pins", b"a"), rest.tag("pins", b"b"));
        assert_ne!(rest.tag("pins", b"a"), Rest::new(&StoreKey::from_bytes([2; 32])).tag("pins", b"a"));
    }
}
