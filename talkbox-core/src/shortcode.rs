//! Shortcodes: the public address of a mailbox in twenty symbols that can be read out, typed and printed.
//!
//! A code certifies itself: 18 symbols are the first 90 bits of a memory-hard hash of the mailbox id, so no directory
//! is believed about which key a code means. Two check symbols detect every error of one or two symbols; where one
//! changed symbol or one swap of neighbours would make a code valid, the error names it as possible. None is ever
//! taken unasked: more than half of all errors of two symbols look like a single one elsewhere.
//!
//! The symbols are Crockford's: digits and letters without I, L, O and U. Letters and digits are public, words are
//! secret.

use std::{fmt, str::FromStr};

use crate::{Error, ErrorKind, MailboxId, passphrase::argon2id};

/// Symbols of a code.
pub const SYMBOLS: usize = 20;
/// Bytes that are read: all spellings of a code and the longest links fit, and a pasted novel does not.
pub const MAX_BYTES: usize = 512;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const DATA: usize = 18;
const GROUP: usize = 5;

/// The code of a mailbox, such as `F12TW-YXSDN-W8QCK-54PDT`.
///
/// Any two codes differ in at least three symbols. Parsing takes any case, `O` for 0, `I` and `L` for 1, spaces and
/// dashes anywhere, the prefix `talkbox:` and a link that ends in `#/to/` and the code.
///
/// ```
/// use talkbox_core::shortcode::Shortcode;
///
/// let code: Shortcode = "talkbox:fl2tw yxsdn w8qck 54pdt".parse()?;
/// assert_eq!(code.to_string(), "F12TW-YXSDN-W8QCK-54PDT");
/// assert_eq!(code.symbols(), "F12TWYXSDNW8QCK54PDT");
///
/// let wrong = Shortcode::parse("G12TW-YXSDN-W8QCK-54PDT").unwrap_err();
/// assert_eq!(wrong.possible()[0].code, code);
/// assert_eq!(wrong.possible()[0].position, 1);
/// # Ok::<(), talkbox_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shortcode([u8; SYMBOLS]);

impl Shortcode {
    /// The code of a mailbox: Argon2id with 64 MiB and three passes, about 0.2 seconds of one core.
    ///
    /// So slow on purpose: it makes forging a code dear. Compute it once per mailbox and away from an async runtime's
    /// threads.
    ///
    /// # Panics
    /// Where there are no 64 MiB of memory.
    pub fn of(mailbox: &MailboxId) -> Self {
        let hash = fingerprint(mailbox);
        let mut bits = (0..DATA * 5).map(|bit| hash[bit / 8] >> (7 - bit % 8) & 1);
        let data = std::array::from_fn(|_| bits.by_ref().take(5).fold(0, |value, bit| value << 1 | bit));
        Self::from_values(&with_check(&data))
    }

    /// Whether this is the code of that mailbox. As slow as [`of`](Self::of), and panics where that does.
    pub fn matches(&self, mailbox: &MailboxId) -> bool {
        Self::of(mailbox) == *self
    }

    /// The code in any accepted spelling.
    ///
    /// # Errors
    /// What exactly is wrong, and for symbols that do not fit together what is possible.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_BYTES {
            return Err(ParseError::TooLong { limit: MAX_BYTES });
        }
        let mut values = [0; SYMBOLS];
        let mut found = 0;
        for symbol in bare(text).chars().filter(|symbol| !is_separator(*symbol)) {
            let value = value_of(symbol).ok_or(ParseError::Symbol { symbol, position: found + 1 })?;
            if let Some(place) = values.get_mut(found) {
                *place = value;
            }
            found += 1;
        }
        match found {
            0 => Err(ParseError::Empty),
            SYMBOLS => Self::checked(&values),
            found => Err(ParseError::Length { found }),
        }
    }

    /// The code in the one spelling of the wire, which is that of [`symbols`](Self::symbols): the `d` tag of a record.
    ///
    /// `None` for any other.
    pub fn from_symbols(text: &str) -> Option<Self> {
        Self::parse(text).ok().filter(|code| code.symbols() == text)
    }

    /// The twenty symbols in upper case, without dashes: the `d` tag of a record.
    pub fn symbols(&self) -> &str {
        str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }

    fn checked(values: &[u8; SYMBOLS]) -> Result<Self, ParseError> {
        if *values == [0; SYMBOLS] {
            Err(ParseError::AllZero)
        } else if is_valid(values) {
            Ok(Self::from_values(values))
        } else {
            Err(ParseError::WrongCheck { possible: possible(values) })
        }
    }

    fn from_values(values: &[u8; SYMBOLS]) -> Self {
        Self(values.map(|value| ALPHABET[usize::from(value)]))
    }
}

impl fmt::Display for Shortcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, symbol) in self.symbols().chars().enumerate() {
            if at > 0 && at % GROUP == 0 {
                f.write_str("-")?;
            }
            write!(f, "{symbol}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Shortcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Shortcode {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl serde::Serialize for Shortcode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Shortcode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// What is wrong with what was typed where an address belongs; `Display` says it to a person.
///
/// Becomes an [`Error`] of kind `InvalidInput` with the same text by `?`.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Longer than anything that is read.
    TooLong {
        /// The bytes that are read.
        limit: usize,
    },
    /// Nothing but spaces and dashes.
    Empty,
    /// A character that no code has.
    Symbol {
        /// The character.
        symbol: char,
        /// Its place, counted from 1 over everything but spaces and dashes.
        position: usize,
    },
    /// Not twenty symbols.
    Length {
        /// So many.
        found: usize,
    },
    /// Twenty zeros, which would be valid by the check symbols alone.
    AllZero,
    /// Twenty symbols that do not fit together: at least one of them is wrong.
    WrongCheck {
        /// What one changed symbol or one swap of neighbours would make valid: at most one of each, in this order
        /// unless [`known_first`](ParseError::known_first) changed it. The right one need not be among them.
        possible: Vec<Possible>,
    },
    /// A secret was typed where an address belongs.
    Secret {
        /// What kind of secret.
        what: &'static str,
    },
    /// A key in another spelling than a code that is damaged or is no key.
    Key {
        /// What is wrong, as a sentence.
        why: &'static str,
    },
}

impl ParseError {
    /// The codes that may have been meant, to be shown and never used unasked.
    pub fn possible(&self) -> &[Possible] {
        match self {
            Self::WrongCheck { possible } => possible,
            _ => &[],
        }
    }

    /// The same error with the codes that are already known before the others.
    #[must_use]
    pub fn known_first(mut self, known: impl Fn(&Shortcode) -> bool) -> Self {
        if let Self::WrongCheck { possible } = &mut self {
            possible.sort_by_cached_key(|possible| !known(&possible.code));
        }
        self
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit } => write!(f, "this is longer than {limit} bytes, and so no address"),
            Self::Empty => f.write_str("this is empty: a code has 20 symbols, such as F12TW-YXSDN-W8QCK-54PDT"),
            Self::Symbol { symbol: 'U' | 'u', position } => {
                write!(f, "symbol {position} is a U, which no code has: look again, it may be a V")
            }
            Self::Symbol { symbol, position } if looks_like_separator(*symbol) => write!(
                f,
                "symbol {position}, '{}', only looks like a space or a dash: type an ordinary one or none",
                symbol.escape_debug()
            ),
            Self::Symbol { symbol, position } => write!(
                f,
                "symbol {position}, '{}', is in no code: they have digits and letters without U",
                symbol.escape_debug()
            ),
            Self::Length { found } => write!(f, "a code has 20 symbols, and this has {found}"),
            Self::AllZero => f.write_str("a code of zeros alone is nobody's"),
            Self::WrongCheck { possible } => {
                f.write_str("the symbols of this code do not fit together: at least one is wrong")?;
                for (at, possible) in possible.iter().enumerate() {
                    write!(f, "{} {possible}", if at == 0 { "; possible:" } else { " or" })?;
                }
                f.write_str("; compare it with where you have it from")
            }
            Self::Secret { what } => write!(
                f,
                "this is {what}, a secret and no address: show it to nobody; an address is the code or the npub"
            ),
            Self::Key { why } => f.write_str(why),
        }
    }
}

impl std::error::Error for ParseError {}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Self::new(ErrorKind::InvalidInput, error.to_string())
    }
}

/// A valid code near one that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Possible {
    /// The valid code.
    pub code: Shortcode,
    /// What was changed to get it.
    pub change: Change,
    /// Where: the place of the symbol, or of the first of the two that were swapped, counted from 1.
    pub position: usize,
}

impl fmt::Display for Possible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, change, position } = self;
        match change {
            Change::Symbol => write!(f, "{code} (symbol {position} changed)"),
            Change::Swap => write!(f, "{code} (symbols {position} and {} swapped)", position + 1),
        }
    }
}

/// One way to mistype a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// One symbol is another one.
    Symbol,
    /// Two neighbours stand in each other's place.
    Swap,
}

/// The text without the spaces around it, the link before it and the prefix `talkbox:`.
pub(crate) fn bare(text: &str) -> &str {
    let text = text.trim_matches(is_space);
    let text = text.split_once("#/to/").map_or(text, |(_, fragment)| fragment);
    without_scheme(text, "talkbox:")
}

/// The text without this prefix, in whichever case it is written.
pub(crate) fn without_scheme<'a>(text: &'a str, scheme: &str) -> &'a str {
    match text.split_at_checked(scheme.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(scheme) => rest,
        _ => text,
    }
}

/// Whether a character may stand between symbols.
pub(crate) fn is_separator(symbol: char) -> bool {
    is_space(symbol) || symbol == '-'
}

/// The spaces of ASCII: U+0009 to U+000D and U+0020.
fn is_space(symbol: char) -> bool {
    symbol.is_ascii() && symbol.is_whitespace()
}

/// What word processors write for spaces and dashes. Refused like any other character, and said so.
fn looks_like_separator(symbol: char) -> bool {
    symbol.is_whitespace()
        || matches!(symbol, '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{200b}' | '\u{feff}' | '\u{ad}')
}

fn value_of(symbol: char) -> Option<u8> {
    let upper = match symbol.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        upper => upper,
    };
    (0_u8..).zip(ALPHABET).find(|(_, letter)| char::from(**letter) == upper).map(|(value, _)| value)
}

fn fingerprint(mailbox: &MailboxId) -> [u8; 32] {
    *argon2id(65_536, mailbox.as_bytes(), b"talkbox/v1/code").expect("64 MiB of memory")
}

fn with_check(data: &[u8; DATA]) -> [u8; SYMBOLS] {
    let mut values = [0; SYMBOLS];
    values[..DATA].copy_from_slice(data);
    [values[DATA], values[DATA + 1]] = check_of(data);
    values
}

fn is_valid(values: &[u8; SYMBOLS]) -> bool {
    check_of(&values[..DATA]) == values[DATA..]
}

/// Remainder of data·x² by g(x) = (x − α)(x − α²) = x² + 6x + 8 over GF(32), α = 2: the coefficients of x and of 1.
/// The first symbol is the highest power. Version 1 adds nothing to it.
fn check_of(data: &[u8]) -> [u8; 2] {
    data.iter().fold([0, 0], |[high, low], value| {
        let lead = value ^ high;
        [low ^ times(lead, 6), times(lead, 8)]
    })
}

/// Multiplication in GF(32) with x⁵ + x² + 1.
fn times(mut one: u8, mut other: u8) -> u8 {
    let mut product = 0;
    while other > 0 {
        if other & 1 == 1 {
            product ^= one;
        }
        one <<= 1;
        if one & 32 == 32 {
            one ^= 0b10_0101;
        }
        other >>= 1;
    }
    product
}

/// Every code that one changed symbol, or else one swap of neighbours, would make valid. Tries them all: 639 divisions
/// are microseconds, and nothing can be wrong with it.
fn possible(values: &[u8; SYMBOLS]) -> Vec<Possible> {
    let symbols = (0..SYMBOLS).flat_map(|at| {
        (0..32).map(move |value| {
            let mut changed = *values;
            changed[at] = value;
            (changed, Change::Symbol, at)
        })
    });
    let swaps = (1..SYMBOLS).map(|at| {
        let mut changed = *values;
        changed.swap(at - 1, at);
        (changed, Change::Swap, at - 1)
    });
    symbols
        .chain(swaps)
        .filter(|(changed, ..)| is_valid(changed) && *changed != [0; SYMBOLS])
        .map(|(changed, change, at)| Possible { code: Shortcode::from_values(&changed), change, position: at + 1 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    #[test]
    fn the_fingerprint_of_the_vectors_holds() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/shortcodes.json")).expect("JSON");
        for case in vectors["codes"].as_array().expect("cases") {
            let id = MailboxId::from_hex(case["mailbox_id"].as_str().expect("text")).expect("an id");
            assert_eq!(hex::encode(&fingerprint(&id)), case["argon2id"]);
        }
    }

    #[test]
    fn the_generator_is_what_it_says() {
        let (alpha, square) = (2, times(2, 2));
        assert_eq!([alpha ^ square, times(alpha, square)], [6, 8]);
        // α has all 31 powers, and the field has no divisor of zero.
        let powers: std::collections::BTreeSet<u8> =
            std::iter::successors(Some(1), |power| Some(times(*power, alpha))).take(31).collect();
        assert_eq!(powers.len(), 31);
        assert!((1..32).all(|one| (1..32).all(|other| times(one, other) != 0 && times(one, other) < 32)));
    }

    #[test]
    fn every_error_of_one_symbol_is_found_and_every_one_of_two_is_detected() {
        // The code is linear: what holds for errors of one valid word holds for all.
        let zero = [0; SYMBOLS];
        for at in 0..SYMBOLS {
            for error in 1..32 {
                let mut one = zero;
                one[at] = error;
                assert!(!is_valid(&one));
                for second in at + 1..SYMBOLS {
                    for error in 1..32 {
                        let mut two = one;
                        two[second] = error;
                        assert!(!is_valid(&two));
                    }
                }
            }
        }
        let code = Shortcode::parse("F12TW-YXSDN-W8QCK-54PDT").expect("valid");
        for at in 0..SYMBOLS {
            for letter in ALPHABET.iter().filter(|letter| **letter != code.0[at]) {
                let mut wrong = code;
                wrong.0[at] = *letter;
                let error = Shortcode::parse(wrong.symbols()).expect_err("wrong");
                assert!(error.possible().contains(&Possible { code, change: Change::Symbol, position: at + 1 }));
            }
        }
    }

    #[test]
    fn the_code_of_zeros_is_never_offered() {
        let error = Shortcode::parse("0000000000 0000000001").expect_err("wrong");
        assert_eq!(error, ParseError::WrongCheck { possible: vec![] });
    }

    #[test]
    fn known_codes_come_first() {
        let error = Shortcode::parse("F12WT-YXSDN-W8QCK-54PDT").expect_err("wrong");
        let codes = |error: &ParseError| error.possible().iter().map(|one| one.code).collect::<Vec<_>>();
        let (found, known) = (codes(&error), Shortcode::parse("F12TW-YXSDN-W8QCK-54PDT").expect("valid"));
        assert_eq!((found.len(), found[1]), (2, known));
        assert_eq!(codes(&error.clone().known_first(|code| *code == known)), [found[1], found[0]]);
        assert_eq!(codes(&error.known_first(|_| false)), found);
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let text = |input: &str| Error::from(Shortcode::parse(input).expect_err("wrong")).to_string();
        assert_eq!(text("F12U"), "symbol 4 is a U, which no code has: look again, it may be a V");
        assert_eq!(text("F12T-W*"), "symbol 6, '*', is in no code: they have digits and letters without U");
        assert_eq!(
            text("F12TW–YXSDN"),
            "symbol 6, '–', only looks like a space or a dash: type an ordinary one or none"
        );
        assert_eq!(text("\u{1b}[31m"), "symbol 1, '\\u{1b}', is in no code: they have digits and letters without U");
        assert_eq!(text("F12TW"), "a code has 20 symbols, and this has 5");
        assert_eq!(
            text("F12WT-YXSDN-W8QCK-54PDT"),
            "the symbols of this code do not fit together: at least one is wrong; possible: F12WT-YXSDN-W8QCK-54GDT \
             (symbol 18 changed) or F12TW-YXSDN-W8QCK-54PDT (symbols 4 and 5 swapped); compare it with where you have \
             it from"
        );
    }

    #[test]
    fn only_the_canonical_spelling_is_a_tag() {
        let code = Shortcode::from_symbols("F12TWYXSDNW8QCK54PDT").expect("canonical");
        assert_eq!(serde_json::to_string(&code).expect("a string"), "\"F12TW-YXSDN-W8QCK-54PDT\"");
        assert_eq!(serde_json::from_str::<Shortcode>("\"f12twyxsdnw8qck54pdt\"").expect("a code"), code);
        for other in ["F12TW-YXSDN-W8QCK-54PDT", "f12twyxsdnw8qck54pdt", "Fl2TWYXSDNW8QCK54PDT", ""] {
            assert_eq!(Shortcode::from_symbols(other), None);
        }
    }
}
