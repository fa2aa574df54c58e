//! Mailbox keys: made from the operating system's randomness, from recovery words, from an `nsec`, or unlocked with a
//! password; and what a key can do: sign, name its mailbox, agree with another key.

use std::{cmp::Reverse, fmt, sync::Arc};

use bip39::{Language, Mnemonic};
use nostr::{
    error::ErrorKind as NostrErrorKind,
    key::Keys,
    nips::{
        nip06::FromMnemonic,
        nip19::{FromBech32, ToBech32},
        nip44::v2::ConversationKey,
        nip49::{EncryptedSecretKey, KeySecurity},
    },
};
use secp256k1::SECP256K1;
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, MailboxId, PublicKey, Result, hex, random};

/// No spelling of a key is longer: an `ncryptsec` has 162 characters.
const MAX_KEY_TEXT: usize = 512;
/// 24 words of 8 letters are 215 bytes; the rest is for generous spacing.
const MAX_WORDS_TEXT: usize = 1024;
/// The cost of scrypt that NIP-49 calls good: 64 MiB, about a quarter of a second.
const LOG_N: u8 = 16;

/// A secret key of secp256k1: of a mailbox, a sender, or thrown away after one use.
///
/// A clone shares the one copy in memory, which is wiped when the last clone is dropped. `Debug` shows nothing of it.
///
/// ```
/// use talkbox_core::SecretKey;
///
/// let words = "leader monkey parrot ring guide accident before fence cannon height naive bean";
/// let key = SecretKey::from_words(words, 0)?;
/// assert!(key.id().to_hex().starts_with("17162c921dc4d251"));
/// assert_eq!(format!("{key:?}"), "SecretKey(…)");
/// # Ok::<(), talkbox_core::Error>(())
/// ```
#[derive(Clone)]
pub struct SecretKey(Arc<Keys>);

impl SecretKey {
    /// A new key from the randomness of the operating system.
    ///
    /// # Errors
    /// `Unexpected` where the operating system has none to give.
    pub fn generate() -> Result<Self> {
        loop {
            // Fails once in 2^128 times, where the number is 0 or not under the order of the curve.
            if let Ok(key) = Self::from_bytes(&Zeroizing::new(random::bytes()?)) {
                return Ok(key);
            }
        }
    }

    /// The key with this big-endian number.
    ///
    /// # Errors
    /// `InvalidInput` for 0 and for numbers that are not under the order of the curve.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        nostr::key::SecretKey::from_slice(bytes)
            .map(Self::new)
            .map_err(|_| invalid("these 32 bytes are no secret key: the number is zero or too large"))
    }

    /// The key behind an `nsec1…` (NIP-19) or behind 64 hexadecimal digits. Space around it is ignored.
    ///
    /// # Errors
    /// `InvalidInput`, with a text that says what was typed instead where it can tell, and that never repeats it.
    pub fn from_nsec(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() > MAX_KEY_TEXT {
            return Err(invalid("this is too long for a secret key: an nsec has 63 characters"));
        }
        if let Some(bytes) = hex::decode32(text).map(Zeroizing::new) {
            return Self::from_bytes(&bytes);
        }
        let starts = |prefix: &str| text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if starts("npub1") || starts("nprofile1") {
            return Err(invalid("this is a public key, which opens nothing: the secret one begins with nsec1"));
        }
        if starts("ncryptsec1") {
            return Err(invalid("this key is encrypted: it is unlocked with its password"));
        }
        if !starts("nsec1") {
            return Err(invalid("a secret key is an nsec1… or 64 hexadecimal digits"));
        }
        nostr::key::SecretKey::from_bech32(text)
            .map(Self::new)
            .map_err(|_| invalid("this nsec is damaged: its checksum does not match; copy it again, whole"))
    }

    /// The key of mailbox number `account` of these recovery words (NIP-06: `m/44'/1237'/account'/0/0`, no BIP-39
    /// passphrase). The first mailbox is number 0.
    ///
    /// 12, 15, 18, 21 or 24 words of the English BIP-39 list, in any case and spacing; Talkbox itself makes 12.
    ///
    /// # Errors
    /// `InvalidInput` for another number of words, for a word that is not in the list (its position from 1 and the
    /// nearest of the list, never the word itself), for a checksum that does not match, and for an account from
    /// 2^31.
    pub fn from_words(words: &str, account: u32) -> Result<Self> {
        let words = normalize_words(words)?;
        if account >= 1 << 31 {
            return Err(invalid("the number of a mailbox is under 2147483648"));
        }
        Keys::from_mnemonic_with_account(words.as_str(), None, Some(account))
            .map(|keys| Self(Arc::new(keys)))
            .map_err(|_| invalid("no key can be derived from these words"))
    }

    /// Unlocks an `ncryptsec1…` (NIP-49). The password is normalised (NFKC) first.
    ///
    /// Takes as long and as much memory as the writer chose, up to 256 MiB and about a second.
    ///
    /// # Errors
    /// `Locked` for a wrong password; `InvalidInput` for what is no `ncryptsec`, or asks for more memory than that.
    pub fn from_ncryptsec(text: &str, password: &str) -> Result<Self> {
        let text = text.trim();
        let encrypted = (text.len() <= MAX_KEY_TEXT)
            .then(|| EncryptedSecretKey::from_bech32(text).ok())
            .flatten()
            .ok_or_else(|| invalid("this is no whole encrypted key: an ncryptsec1… has 162 characters"))?;
        if encrypted.log_n() > EncryptedSecretKey::MAX_LOG_N {
            return Err(invalid("unlocking this key would take more than 256 MiB of memory: it is refused"));
        }
        encrypted.decrypt(password).map(Self::new).map_err(|error| match error.kind() {
            NostrErrorKind::Crypto => Error::new(ErrorKind::Locked, "the password is wrong"),
            _ => invalid("this encrypted key holds no key"),
        })
    }

    /// The big-endian number.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.keys().secret_key().to_secret_bytes())
    }

    /// The `nsec1…` (NIP-19): whoever sees it owns the mailbox.
    pub fn to_nsec(&self) -> Zeroizing<String> {
        let Ok(nsec) = self.keys().secret_key().to_bech32();
        Zeroizing::new(nsec)
    }

    /// The `ncryptsec1…` (NIP-49) under this password, with scrypt at log₂N = 16: 64 MiB and about a quarter of a
    /// second.
    ///
    /// # Errors
    /// `InvalidInput` for an empty password; `Unexpected` where the operating system gives no randomness.
    pub fn to_ncryptsec(&self, password: &str) -> Result<String> {
        if password.is_empty() {
            return Err(invalid("an empty password protects nothing"));
        }
        let (salt, nonce) = (random::bytes()?, random::bytes()?);
        EncryptedSecretKey::new_with_salt_and_nonce(
            self.keys().secret_key(),
            password,
            LOG_N,
            KeySecurity::Unknown,
            salt,
            nonce,
        )
        .and_then(|encrypted| encrypted.to_bech32())
        .map_err(|error| Error::new(ErrorKind::Unexpected, "the key could not be encrypted").source(error))
    }

    /// The mailbox of this key.
    pub fn id(&self) -> MailboxId {
        self.public().into()
    }

    /// The public side of this key.
    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.keys().public_key().to_bytes())
    }

    /// Signs a digest (BIP-340) with fresh auxiliary randomness.
    pub fn sign(&self, digest: &[u8; 32]) -> [u8; 64] {
        // The randomness only hardens against faults and side channels: BIP-340 is as unforgeable without it, so a
        // system that has run out of it is no reason to fail.
        let aux = random::bytes().unwrap_or_default();
        self.keys().sign_schnorr_with_aux_rand(SECP256K1, digest, &aux).to_bytes()
    }

    /// The NIP-44 key that this key and another share: one curve multiplication.
    ///
    /// # Errors
    /// `InvalidInput` where the other key is no point of the curve.
    pub(crate) fn conversation_key(&self, with: &PublicKey) -> Result<ConversationKey> {
        let with = nostr::key::PublicKey::from_byte_array(*with.as_bytes());
        ConversationKey::derive(self.keys().secret_key(), &with)
            .map_err(|_| invalid("the public key is no point of the curve: nothing can be sealed to it"))
    }

    /// The key as the `nostr` crate has it.
    pub(crate) fn keys(&self) -> &Keys {
        &self.0
    }

    fn new(key: nostr::key::SecretKey) -> Self {
        Self(Arc::new(Keys::new(key)))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// Twelve words that are a mailbox, and any number of further ones: what is written down on paper.
///
/// Wiped from memory when dropped; `Debug` shows nothing of it.
#[derive(Clone)]
pub struct RecoveryWords(Zeroizing<String>);

impl RecoveryWords {
    /// Twelve new words: 128 bits from the operating system and a checksum of 4 (BIP-39, English).
    ///
    /// # Errors
    /// `Unexpected` where the operating system gives no randomness.
    pub fn generate() -> Result<Self> {
        let entropy = Zeroizing::new(random::bytes::<16>()?);
        let words = Mnemonic::from_entropy_in(Language::English, &*entropy)
            .map_err(|error| Error::new(ErrorKind::Unexpected, "no words could be made").source(error))?;
        Ok(Self(join(words.words())))
    }

    /// Whether a text is recovery words, or would be but for a word or two: most of its six or more words are in the
    /// list. Told apart so that a secret is not taken for something else and shown.
    pub fn resemble(text: &str) -> bool {
        if text.len() > MAX_WORDS_TEXT {
            return false;
        }
        let (mut all, mut known) = (0, 0);
        for word in text.split_whitespace() {
            all += 1;
            known += usize::from(in_list(&Zeroizing::new(word.to_ascii_lowercase())));
        }
        all >= 6 && known * 2 > all
    }

    /// The words, with one space between two.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RecoveryWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryWords(…)")
    }
}

/// Whether a word is one of the 2048 of the English BIP-39 list, exactly.
pub(crate) fn in_list(word: &str) -> bool {
    Language::English.find_word(word).is_some()
}

/// Words with one space between two, in memory that is wiped.
pub(crate) fn join<'a>(words: impl Iterator<Item = &'a str> + Clone) -> Zeroizing<String> {
    // The whole size at once: a string that grows leaves copies behind that nobody wipes.
    let size = words.clone().map(|word| word.len() + 1).sum();
    let mut text = Zeroizing::new(String::with_capacity(size));
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

/// Recovery words in lower case and single spaces, known to be valid.
fn normalize_words(text: &str) -> Result<Zeroizing<String>> {
    if text.len() > MAX_WORDS_TEXT {
        return Err(invalid("this is too long for recovery words"));
    }
    let lower = Zeroizing::new(text.to_lowercase());
    let count = lower.split_whitespace().count();
    if !matches!(count, 12 | 15 | 18 | 21 | 24) {
        let message = format!("these are {count} words: recovery words are 12, or 15, 18, 21 or 24 from elsewhere");
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    for (at, word) in lower.split_whitespace().enumerate() {
        if !in_list(word) {
            let near = nearest_words(word).join("\" or \"");
            let message = format!("word {} is not one of the 2048 recovery words; it may be \"{near}\"", at + 1);
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
    }
    let words = join(lower.split_whitespace());
    Mnemonic::parse_in_normalized(Language::English, &words).map_err(|_| {
        invalid("every word is in the list, but the checksum does not match: one is wrong, or out of order")
    })?;
    Ok(words)
}

/// The words of the list that take the fewest edits, at most three: those that begin most alike first, since four
/// letters already tell the words of the list apart.
fn nearest_words(word: &str) -> Vec<&'static str> {
    let alike = |other: &str| word.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
    let mut near: Vec<_> = Language::English
        .word_list()
        .iter()
        .map(|other| (strsim::osa_distance(word, other), Reverse(alike(other)), *other))
        .collect();
    near.sort_unstable();
    let least = near[0].0;
    near.into_iter().take_while(|(edits, ..)| *edits == least).take(3).map(|(.., other)| other).collect()
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::verify_signature;

    const WORDS: &str = "leader monkey parrot ring guide accident before fence cannon height naive bean";
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

    fn message<T: fmt::Debug>(result: Result<T>) -> String {
        let error = result.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    }

    #[test]
    fn numbers_outside_the_group_are_no_keys() {
        let order: [u8; 32] = hex::decode(ORDER).expect("hex");
        let mut last = order;
        last[31] -= 1;
        for refused in [[0; 32], order, [0xff; 32]] {
            message(SecretKey::from_bytes(&refused));
        }
        assert_eq!(*SecretKey::from_bytes(&last).expect("a key").to_bytes(), last);
    }

    #[test]
    fn a_generated_key_signs_and_round_trips() {
        let key = SecretKey::generate().expect("randomness");
        let digest = [7; 32];
        let (one, other) = (key.sign(&digest), key.sign(&digest));
        assert_ne!(one, other, "the auxiliary randomness is fresh");
        for sig in [one, other] {
            verify_signature(&key.public(), &digest, &sig).expect("valid");
        }
        for text in
            [key.to_nsec().to_string(), format!(" {}\n", key.to_nsec().to_uppercase()), hex::encode(&*key.to_bytes())]
        {
            assert_eq!(SecretKey::from_nsec(&text).expect("parses").id(), key.id());
        }
    }

    #[test]
    fn what_is_no_nsec_is_told_apart_and_not_repeated() {
        let key = SecretKey::from_words(WORDS, 0).expect("a key");
        let npub = "npub1zutzeysacnf9rru6zqwmxd54mud0k44tst6l70ja5mhv8jjumytsd2x7nu";
        assert!(message(SecretKey::from_nsec(npub)).contains("public key"));
        assert!(message(SecretKey::from_nsec("ncryptsec1qgg9947r")).contains("password"));
        let damaged = key.to_nsec().replace('q', "p");
        let text = message(SecretKey::from_nsec(&damaged));
        assert!(text.contains("damaged") && !text.contains(&damaged), "{text}");
        for garbage in ["", "nsec", "é", &"1".repeat(100_000)] {
            message(SecretKey::from_nsec(garbage));
        }
    }

    #[test]
    fn words_of_any_case_and_spacing_are_the_same_mailbox() {
        let key = SecretKey::from_words(WORDS, 0).expect("a key");
        let loose = format!("  {}\n", WORDS.replace(' ', "\t \n").to_uppercase());
        assert_eq!(SecretKey::from_words(&loose, 0).expect("a key").id(), key.id());
        assert_ne!(SecretKey::from_words(WORDS, 1).expect("a key").id(), key.id());
        // The vector of 24 words in NIP-06.
        let long = "what bleak badge arrange retreat wolf trade produce cricket blur garlic valid proud rude strong \
                    choose busy staff weather area salt hollow arm fade";
        let secret = "c15d739894c81a2fcfd3a2df85a0d2c0dbc47a280d092799f144d73d7ae78add";
        assert_eq!(hex::encode(&*SecretKey::from_words(long, 0).expect("a key").to_bytes()), secret);
    }

    #[test]
    fn wrong_words_are_named_by_place_and_neighbour() {
        let text = message(SecretKey::from_words(&WORDS.replace("cannon", "canon"), 0));
        assert!(
            text.contains("word 9") && text.contains("\"canoe\" or \"cannon\"") && !text.contains("canon\""),
            "{text}"
        );
        let text = message(SecretKey::from_words(&WORDS.replace("parrot", "parrto"), 0));
        assert!(text.contains("word 3") && text.contains("\"parrot\""), "{text}");
        assert!(message(SecretKey::from_words(&WORDS.replace("bean", "beach"), 0)).contains("checksum"));
        assert!(message(SecretKey::from_words("leader monkey", 0)).contains("2 words"));
        assert!(message(SecretKey::from_words(&"a ".repeat(600), 0)).contains("too long"));
        message(SecretKey::from_words(WORDS, 1 << 31));
    }

    #[test]
    fn generated_words_are_twelve_and_hidden() {
        let (one, other) = (RecoveryWords::generate().expect("words"), RecoveryWords::generate().expect("words"));
        assert_ne!(one.as_str(), other.as_str());
        assert_eq!(one.as_str().split(' ').count(), 12);
        SecretKey::from_words(one.as_str(), 0).expect("valid");
        assert_eq!(format!("{one:?}"), "RecoveryWords(…)");
        assert!(RecoveryWords::resemble(one.as_str()));
    }

    #[test]
    fn an_encrypted_key_opens_with_its_password_alone() {
        let key = SecretKey::from_words(WORDS, 0).expect("a key");
        let encrypted = key.to_ncryptsec("pass").expect("encrypts");
        assert_eq!(SecretKey::from_ncryptsec(&encrypted, "pass").expect("opens").id(), key.id());
        let error = SecretKey::from_ncryptsec(&encrypted, "Pass").expect_err("wrong");
        assert_eq!(error.kind(), ErrorKind::Locked);
        message(key.to_ncryptsec(""));
    }

    #[test]
    fn the_vector_of_nip_49_opens() {
        let encrypted = "ncryptsec1qgg9947rlpvqu76pj5ecreduf9jxhselq2nae2kghhvd5g7dgjtcxfqtd67p9m0w57lspw8gsq6yphnm8623nsl8xn9j4jdzz84zm3frztj3z7s35vpzmqf6ksu8r89qk5z2zxfmu5gv8th8wclt0h4p";
        let key = SecretKey::from_ncryptsec(encrypted, "nostr").expect("opens");
        assert_eq!(hex::encode(&*key.to_bytes()), "3501454135014541350145413501453fefb02227e449e57cf4d3a3ce05378683");
    }

    #[test]
    fn an_encrypted_key_that_asks_for_too_much_memory_is_refused_at_once() {
        let encrypted = "ncryptsec1qgg9947rlpvqu76pj5ecreduf9jxhselq2nae2kghhvd5g7dgjtcxfqtd67p9m0w57lspw8gsq6yphnm8623nsl8xn9j4jdzz84zm3frztj3z7s35vpzmqf6ksu8r89qk5z2zxfmu5gv8th8wclt0h4p";
        let mut bytes = EncryptedSecretKey::from_bech32(encrypted).expect("parses").as_vec();
        bytes[1] = 63;
        let greedy = EncryptedSecretKey::from_slice(&bytes).expect("parses").to_bech32().expect("encodes");
        assert!(message(SecretKey::from_ncryptsec(&greedy, "nostr")).contains("memory"));
        for garbage in ["", "ncryptsec1", &encrypted[..100]] {
            message(SecretKey::from_ncryptsec(garbage, "nostr"));
        }
    }

    #[test]
    fn two_keys_agree_and_a_key_off_the_curve_does_not() {
        let (one, other) = (SecretKey::generate().expect("randomness"), SecretKey::generate().expect("randomness"));
        let agreed = one.conversation_key(&other.public()).expect("a key");
        assert_eq!(agreed, other.conversation_key(&one.public()).expect("a key"));
        message(one.conversation_key(&PublicKey::from_bytes([0xff; 32])));
    }
}
