//! Mailboxes from a passphrase: how it is normalised, stretched into a key, made up, and judged.
//!
//! The passphrase alone is the mailbox: whoever guesses it owns it, and every guess can be tried against every mailbox
//! that is known. So it is stretched by Argon2id with 256 MiB, and a weak one is refused. The parameters belong to the
//! version of the format and are in no configuration.

use std::{collections::BTreeSet, fmt, iter, panic::catch_unwind};

use argon2::{Algorithm, Argon2, Params, Version};
use bip39::Language;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::{
    Error, ErrorKind, Result,
    keys::{SecretKey, in_list, join},
    random,
};

/// Bytes of a passphrase or a name that are read: far more than anybody types, and little enough to normalise at once.
pub const MAX_BYTES: usize = 4096;
/// Guesses that a passphrase of one's own has to withstand, as a power of ten.
pub const MIN_LOG10_GUESSES: f64 = 18.0;

const MEMORY_KIB: u32 = 262_144;
const PHRASE_WORDS: usize = 8;
/// Eight random words have fewer different ones than this once in two million times.
const PHRASE_DIFFERENT: usize = 6;
/// 2048^8, as a power of ten.
const PHRASE_LOG10_GUESSES: f64 = 26.49;

/// The form in which a passphrase or a name is used: NFKC, each run of white space (Unicode `White_Space`) one space,
/// none at the ends, case kept.
///
/// # Errors
/// `InvalidInput` for an empty one, one of more than [`MAX_BYTES`], and for code points that have no meaning in
/// Unicode 16 (a later version could normalise them differently, and open another mailbox) or are control characters
/// other than white space. The text says at which character, and repeats none.
///
/// ```
/// let phrase = talkbox_core::passphrase::normalize("  Straße\u{3000}ﬁn ")?;
/// assert_eq!(phrase.as_str(), "Straße fin");
/// # Ok::<(), talkbox_core::Error>(())
/// ```
pub fn normalize(text: &str) -> Result<Zeroizing<String>> {
    let normalized = fold(text)?;
    if normalized.is_empty() {
        return Err(invalid("the passphrase is empty"));
    }
    Ok(normalized)
}

/// The key of the mailbox with this passphrase and this name, which may be empty.
///
/// Takes 256 MiB of memory and about a second of one core; keep the key and not the passphrase. Whether the passphrase
/// is strong enough is asked of [`check`], and only when a mailbox is made: here every one opens *some* mailbox, so
/// after typing show the code and compare it with what is known.
///
/// # Errors
/// As [`normalize`]; `Unexpected` where there is not enough memory.
pub fn derive(passphrase: &str, name: &str) -> Result<SecretKey> {
    let passphrase = normalize(passphrase)?;
    let stretched = stretch(&passphrase, &salt(&fold(name)?))?;
    SecretKey::from_bytes(&scalar(&expand(&stretched)))
}

/// A new passphrase: eight random words of the English BIP-39 list, 88 bits from the operating system.
///
/// It has no checksum, and is strong enough for an empty name.
///
/// # Errors
/// `Unexpected` where the operating system gives no randomness.
pub fn generate_phrase() -> Result<Zeroizing<String>> {
    loop {
        // The list has 2^11 words, so the low bits of a random number choose without bias.
        let bytes = Zeroizing::new(random::bytes::<{ PHRASE_WORDS * 2 }>()?);
        let numbers = bytes.chunks_exact(2).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]]) & 0x7ff));
        let phrase = join(numbers.map(|number| Language::English.word_list()[number]));
        if is_generated(&phrase) {
            return Ok(phrase);
        }
    }
}

/// Refuses a passphrase that is too weak to make a mailbox from.
///
/// A phrase of eight words of the list counts as generated, whoever typed it; `generated` says so of any other. One's
/// own needs an estimate of at least 10^18 guesses and a name that is not empty, unless `accept_weak`: the answer of a
/// person who was told.
///
/// # Errors
/// `InvalidInput`, with a text that says what to do; and as [`normalize`].
pub fn check(passphrase: &str, name: &str, generated: bool, accept_weak: bool) -> Result<()> {
    let strength = Strength::estimate(passphrase, name)?;
    if generated || strength.is_generated() || accept_weak {
        return Ok(());
    }
    if !strength.is_enough() {
        let message = format!(
            "this passphrase is too easy to guess: {strength}, and 10^{MIN_LOG10_GUESSES:.0} are needed; take a \
             generated phrase, add words that do not belong together, or accept a weak one explicitly"
        );
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    if fold(name)?.is_empty() {
        return Err(invalid(
            "a passphrase of one's own needs a name for the mailbox, so that one guess does not try all mailboxes at \
             once; choose a name, take a generated phrase, or accept a weak one explicitly",
        ));
    }
    Ok(())
}

/// How many guesses a passphrase withstands, by estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength {
    log10: f64,
    generated: bool,
}

impl Strength {
    /// Estimates it with zxcvbn, to which the name of the mailbox is known: as a whole and word by word, the lower of
    /// the two, and at most 10^19.
    ///
    /// A phrase of eight different enough words of the list, in lower case, is taken for a generated one. Any other is
    /// judged by its first 80 characters: what does not reach the mark by then is a repetition. Takes milliseconds,
    /// and up to two seconds for what is made to be slow.
    ///
    /// # Errors
    /// As [`normalize`].
    pub fn estimate(passphrase: &str, name: &str) -> Result<Self> {
        let (passphrase, name) = (normalize(passphrase)?, fold(name)?);
        let generated = is_generated(&passphrase);
        let log10 = if generated { PHRASE_LOG10_GUESSES } else { estimate(&passphrase, &name) };
        Ok(Self { log10, generated })
    }

    /// The guesses.
    pub fn guesses(&self) -> f64 {
        10_f64.powf(self.log10)
    }

    /// The guesses, as a power of ten.
    pub const fn log10(&self) -> f64 {
        self.log10
    }

    /// Whether it has the form of a generated phrase.
    pub const fn is_generated(&self) -> bool {
        self.generated
    }

    /// Whether it reaches [`MIN_LOG10_GUESSES`].
    pub fn is_enough(&self) -> bool {
        self.log10 >= MIN_LOG10_GUESSES
    }
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded down, so that a refusal never reads "10^18, and 10^18 are needed".
        write!(f, "about 10^{:.0} guesses", self.log10.floor())
    }
}

/// Argon2id, version 0x13, three passes, one lane, 32 bytes.
///
/// # Errors
/// `Unexpected` where there is not enough memory.
pub(crate) fn argon2id(memory_kib: u32, password: &[u8], salt: &[u8]) -> Result<Zeroizing<[u8; 32]>> {
    let mut out = Zeroizing::new([0; 32]);
    Params::new(memory_kib, 3, 1, Some(32))
        .and_then(|params| {
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(password, salt, &mut *out)
        })
        .map_err(|error| Error::new(ErrorKind::Unexpected, "Argon2id failed").source(error))?;
    Ok(out)
}

fn salt(name: &str) -> [u8; 32] {
    Sha256::new().chain_update(b"talkbox/v1/key\0").chain_update(name).finalize().into()
}

fn stretch(passphrase: &str, salt: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>> {
    argon2id(MEMORY_KIB, passphrase.as_bytes(), salt)
}

fn expand(stretched: &[u8; 32]) -> Zeroizing<[u8; 48]> {
    let mut out = Zeroizing::new([0; 48]);
    Hkdf::<Sha256>::new(None, stretched)
        .expand(b"talkbox/v1/secp256k1", &mut *out)
        .expect("48 bytes are no more than 255 blocks");
    out
}

/// (`wide` mod (n − 1)) + 1 with n the order of the curve: never 0, never n, and with 384 bits in without bias.
///
/// One bit at a time and without a branch on a secret; it runs once beside a second of Argon2id.
fn scalar(wide: &[u8; 48]) -> Zeroizing<[u8; 32]> {
    /// n − 1, least significant limb first.
    const MODULUS: [u64; 4] = [0xbfd2_5e8c_d036_4140, 0xbaae_dce6_af48_a03b, 0xffff_ffff_ffff_fffe, u64::MAX];

    let mut rest = Zeroizing::new([0_u64; 4]);
    for bit in (0..384).map(|at| wide[at / 8] >> (7 - at % 8) & 1) {
        let mut carry = u64::from(bit);
        for limb in rest.iter_mut() {
            (*limb, carry) = (*limb << 1 | carry, *limb >> 63);
        }
        let (mut less, mut borrow) = (Zeroizing::new([0_u64; 4]), 0);
        for (at, limb) in less.iter_mut().enumerate() {
            let difference = u128::from(rest[at]).wrapping_sub(u128::from(MODULUS[at]) + u128::from(borrow));
            (*limb, borrow) = (difference as u64, (difference >> 64) as u64 & 1);
        }
        // All ones where the modulus fits into the remainder: where a bit was carried out, or nothing was borrowed.
        let fits = (carry | (borrow ^ 1)).wrapping_neg();
        for (limb, less) in rest.iter_mut().zip(less.iter()) {
            *limb = (*limb & !fits) | (less & fits);
        }
    }

    let mut out = Zeroizing::new([0; 32]);
    let mut carry = 1;
    for (limb, bytes) in rest.iter().zip(out.rchunks_exact_mut(8)) {
        let (sum, over) = limb.overflowing_add(carry);
        bytes.copy_from_slice(&sum.to_be_bytes());
        carry = u64::from(over);
    }
    out
}

/// [`normalize`], with nothing allowed: what a name goes through.
fn fold(text: &str) -> Result<Zeroizing<String>> {
    if text.len() > MAX_BYTES {
        return Err(invalid("this is too long for a passphrase or a name: they have at most 4096 bytes"));
    }
    // Before NFKC and not after: what is assigned now stays what it is in every later version.
    for (at, symbol) in text.chars().enumerate() {
        let why = match get_general_category(symbol) {
            GeneralCategory::Unassigned => "has no meaning in Unicode 16, and may come out differently elsewhere",
            GeneralCategory::Control if !symbol.is_whitespace() => "is a control character",
            _ => continue,
        };
        return Err(Error::new(ErrorKind::InvalidInput, format!("character {} {why}: leave it out", at + 1)));
    }
    // The whole size at once: a string that grows leaves copies behind that nobody wipes.
    let size = text.nfkc().map(char::len_utf8).sum();
    let mut out = Zeroizing::new(String::with_capacity(size));
    let mut space = false;
    for symbol in text.nfkc() {
        if symbol.is_whitespace() {
            space = !out.is_empty();
            continue;
        }
        if space {
            out.push(' ');
            space = false;
        }
        out.push(symbol);
    }
    Ok(out)
}

/// Whether a normalised passphrase is eight words of the list, and not one word eight times.
fn is_generated(phrase: &str) -> bool {
    let words = || phrase.split(' ');
    words().count() == PHRASE_WORDS
        && words().all(in_list)
        && words().collect::<BTreeSet<_>>().len() >= PHRASE_DIFFERENT
}

/// The lower of two estimates, as a power of ten: zxcvbn of the whole, and zxcvbn word by word with each word once.
///
/// zxcvbn is made for passwords. It multiplies by 10^4 for every word after the first, so that "the cat sat on the mat"
/// or any quotation of six words would pass; word by word it is as strong as its words are rare. The whole is what
/// finds repetitions.
fn estimate(passphrase: &str, name: &str) -> f64 {
    /// Eight words of eight letters. zxcvbn cuts at 100 by itself, and takes a second for digits and punctuation that
    /// can be read as letters.
    const MAX_CHARS: usize = 80;
    /// It counts the ways to write a known word in upper and lower case, which overflows for a long one.
    const MAX_KNOWN_CHARS: usize = 20;
    const BETWEEN_WORDS: [char; 5] = [' ', '-', '_', '.', ','];

    let judged: Zeroizing<String> = Zeroizing::new(passphrase.chars().take(MAX_CHARS).collect());
    let known: Vec<String> = iter::once("talkbox")
        .chain(name.split(BETWEEN_WORDS))
        .map(|word| word.chars().take(MAX_KNOWN_CHARS).collect())
        .collect();
    // zxcvbn multiplies unchecked in places, as for 32 turns on the keyboard. Where overflow checks are compiled in,
    // that is a panic; a passphrase that it cannot judge counts as weak.
    let estimate = catch_unwind(|| {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let log10 = |text: &str| zxcvbn::zxcvbn(text, &known).guesses_log10().max(0.0);
        let words: BTreeSet<&str> = judged.split(BETWEEN_WORDS).filter(|word| !word.is_empty()).collect();
        log10(&judged).min(words.into_iter().map(log10).sum())
    });
    estimate.unwrap_or(0.0)
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hex;

    const OWN: &str = "correct horse battery staple orbit velvet harbor nine";

    fn refusal<T: fmt::Debug>(result: Result<T>) -> String {
        let error = result.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    }

    #[test]
    fn the_vectors_hold_at_every_step() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/keys.json")).expect("JSON");
        let cases = vectors["passphrase"].as_array().expect("cases");
        for (at, case) in cases.iter().enumerate() {
            let text = |name: &str| case[name].as_str().unwrap_or_else(|| panic!("{name} in case {at}"));
            let normalized = normalize(text("passphrase")).expect("normalises");
            assert_eq!(normalized.as_str(), text("normalized"));
            let salt = salt(&fold(text("mailbox_name")).expect("normalises"));
            assert_eq!(hex::encode(&salt), text("salt"));
            // Argon2id once: the test of the whole derivation in `tests/vectors.rs` runs it for every case.
            if at == 2 {
                assert_eq!(hex::encode(&*stretch(&normalized, &salt).expect("memory")), text("argon2id"));
            }
            let wide = expand(&hex::decode(text("argon2id")).expect("hex"));
            assert_eq!(hex::encode(&*wide), text("hkdf48"));
            assert_eq!(hex::encode(&*scalar(&wide)), text("secret_key"));
        }
    }

    #[test]
    fn the_number_wraps_at_the_order_less_one() {
        let mut wide = [0; 48];
        let one = *scalar(&wide);
        assert_eq!(hex::encode(&one), format!("{:064x}", 1));
        let less = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140";
        wide[16..].copy_from_slice(&hex::decode::<32>(less).expect("hex"));
        assert_eq!(*scalar(&wide), one, "n − 1 leaves nothing");
        wide[47] -= 1;
        assert_eq!(hex::encode(&*scalar(&wide)), less, "n − 2 becomes n − 1, the greatest key");
        // (2^384 − 1) mod (n − 1) + 1, as Python has it.
        let widest = "4551231950b75fc4402da1732fc9bec14551231950b75fc4402da1732fc9bec0";
        assert_eq!(hex::encode(&*scalar(&[0xff; 48])), widest);
    }

    #[test]
    fn white_space_and_compatibility_forms_fold() {
        let folded = |text: &str| normalize(text).expect("normalises").to_string();
        assert_eq!(folded("\u{2003}a\t\r\n b\u{85}c\u{a0}"), "a b c");
        assert_eq!(folded("ｆｕｌｌ　ｗｉｄｔｈ ①"), "full width 1");
        assert_eq!(folded("e\u{301}"), "é");
        assert_eq!(folded("Case KEPT"), "Case KEPT");
        // The diaeresis folds into a space and a combining mark.
        assert_eq!(folded("a ¨"), "a \u{308}");
    }

    #[test]
    fn what_could_come_out_differently_elsewhere_is_refused() {
        assert!(refusal(normalize("ab\u{0}c")).contains("character 3 is a control"));
        assert!(refusal(normalize("\u{1b}[31m")).contains("character 1 is a control"));
        assert!(refusal(normalize("a\u{378}")).contains("character 2 has no meaning"));
        assert!(refusal(normalize("a\u{fffe}")).contains("character 2 has no meaning"));
        for empty in ["", " \t\n\u{3000}"] {
            assert!(refusal(normalize(empty)).contains("empty"));
        }
        assert!(refusal(normalize(&"a".repeat(MAX_BYTES + 1))).contains("too long"));
        refusal(derive("a long enough phrase", "na\u{7f}me"));
    }

    #[test]
    fn generated_phrases_are_eight_words_and_known_again() {
        let (one, other) = (generate_phrase().expect("randomness"), generate_phrase().expect("randomness"));
        assert_ne!(*one, *other);
        for phrase in [one, other] {
            assert_eq!(phrase.split(' ').count(), 8);
            let strength = Strength::estimate(&phrase.replace(' ', "\n"), "").expect("normalises");
            assert!(strength.is_generated() && strength.is_enough());
            check(&phrase, "", false, false).expect("strong");
        }
        let repeated = ["abandon"; 8].join(" ");
        assert!(!Strength::estimate(&repeated, "").expect("normalises").is_generated());
    }

    #[test]
    fn the_rule_asks_for_guesses_and_a_name() {
        check(OWN, "tips", false, false).expect("strong and named");
        assert!(refusal(check(OWN, "", false, false)).contains("name"));
        assert!(refusal(check(OWN, " \t", false, false)).contains("name"));
        check("gargle unmasked dreamland cradling snowcap rework", "tips", false, false).expect("six words by dice");
        for weak in [
            "correct horse battery staple",
            "the cat sat on the mat",
            "to-be-or-not-to-be-that-is-the-question",
            "password123",
            "qwertyuiop",
            "tips tips tips",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(refusal(check(weak, "tips", false, false)).contains("too easy"), "{weak}");
            check(weak, "", false, true).expect("accepted explicitly");
            check(weak, "", true, false).expect("said to be generated");
        }
        assert!(refusal(check("", "tips", true, true)).contains("empty"));
    }

    #[test]
    fn a_name_inside_the_passphrase_counts_for_nothing() {
        let name = "Xq7vKz0Rwm4T";
        let strength = |name: &str| Strength::estimate("Xq7vKz0Rwm4T2031", name).expect("normalises").log10();
        assert!(strength(name) + 5.0 < strength("other"));
    }

    #[test]
    fn what_zxcvbn_overflows_on_is_judged_without_a_panic() {
        let words = "isitmenowegoupattoordoifasanbyheinonofsohiohusam";
        // Of a random walk on the keyboard, which panics inside zxcvbn where overflow checks are on.
        let turns = "hjhyhnbbbgbgfgfvvbnhyhjkjuikiuyujhjhyhyhgfdewederedcxsxcdfvbbvbgtrty656yujhgfgbn";
        for text in [words, turns, &"aB".repeat(200), &format!("{words}{turns}")] {
            for name in ["", words, &"aB".repeat(500)] {
                Strength::estimate(text, name).expect("normalises");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn normalizing_twice_changes_nothing(text in any::<String>()) {
            if let Ok(once) = normalize(&text) {
                prop_assert_eq!(&*normalize(&once).expect("valid"), &*once);
            }
        }

        #[test]
        fn judging_anything_never_panics(text in any::<String>(), name in any::<String>()) {
            let _ = check(&text, &name, false, false);
        }
    }
}
