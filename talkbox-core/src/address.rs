//! Addresses: everything that may be typed, pasted or scanned where a mailbox is meant.

use std::{fmt, str::FromStr};

use nostr::{
    nips::nip19::{FromBech32, Nip19Profile, ToBech32},
    types::RelayUrl,
};
use secp256k1::XOnlyPublicKey;

use crate::{
    Error, ErrorKind, MailboxId, Result, hex,
    keys::RecoveryWords,
    shortcode::{self, ParseError, Shortcode},
};

/// Bytes of an address that are read: a link with the longest `nprofile`, which has 1023 characters, fits.
pub const MAX_BYTES: usize = 2048;
/// Hints that an address carries; further ones of somebody else's are dropped.
pub const MAX_HINTS: usize = 8;
/// Bytes of a hint: NIP-19 has one byte for the length.
pub const MAX_HINT_BYTES: usize = 255;
/// Bytes of all hints, with two more for each: the checksum of Bech32 is good for 1023 characters, which are 630 bytes
/// behind `nprofile1`, and the key takes 34 of them.
pub const MAX_ALL_HINTS_BYTES: usize = 596;

/// Which mailbox is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The one with this code: its key has still to be resolved.
    Code(Shortcode),
    /// The one with this key.
    Mailbox(MailboxId),
}

/// A mailbox, and where it may be found.
///
/// `Display` is the shortest text that says the same: the code, the `npub` or the `nprofile`.
///
/// ```
/// use talkbox_core::address::{Address, Target};
///
/// let address = Address::parse("https://host.example/#/to/F12TW-YXSDN-W8QCK-54PDT")?;
/// assert!(matches!(address.target(), Target::Code(_)));
///
/// let key = Address::parse("npub10xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqpkge6d")?;
/// assert!(matches!(key.target(), Target::Mailbox(_)));
/// # Ok::<(), talkbox_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    target: Target,
    hints: Vec<String>,
}

impl Address {
    /// The address of a mailbox whose key is known, with URLs of relays where it may be found.
    ///
    /// # Errors
    /// `InvalidInput` for more than [`MAX_HINTS`] hints, for one that is no `wss://` or `ws://` URL or has more than
    /// [`MAX_HINT_BYTES`], and for more than [`MAX_ALL_HINTS_BYTES`] together.
    pub fn new(mailbox: MailboxId, hints: &[String]) -> Result<Self> {
        let hints = relay_urls(hints)?.iter().map(|url| url.as_str().to_owned()).collect();
        Ok(Self { target: Target::Mailbox(mailbox), hints })
    }

    /// Reads a code in every spelling that [`Shortcode`] takes, an `npub1…`, an `nprofile1…`, a `nostr:` URI of
    /// either, 64 hexadecimal digits, and a link that ends in `#/to/` and any of these.
    ///
    /// Hints of an `nprofile` that are no relay URL, too long or too many are dropped: they are somebody else's, and
    /// the key is what counts. An `nprofile` of more than 1023 characters is refused, as its checksum is no longer one.
    ///
    /// # Errors
    /// What exactly is wrong. A key that is no point of the curve is refused, since nothing can be sealed to it; so is
    /// a secret (`nsec1…`, `ncryptsec1…`, recovery words), with a warning and without repeating it.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_BYTES {
            return Err(ParseError::TooLong { limit: MAX_BYTES });
        }
        if RecoveryWords::resemble(text) {
            return Err(ParseError::Secret { what: "a phrase of secret words" });
        }
        let bare = shortcode::without_scheme(shortcode::bare(text), "nostr:");
        // A code may begin with NSEC1, or with NPR0F11E1: nothing that is as short as a code is taken for a key.
        let longer_than_a_code =
            bare.chars().filter(|symbol| !shortcode::is_separator(*symbol)).nth(shortcode::SYMBOLS).is_some();
        let prefix = bare.split_once('1').map_or("", |(prefix, _)| prefix).to_ascii_lowercase();
        match prefix.as_str() {
            "nsec" if longer_than_a_code => Err(ParseError::Secret { what: "an nsec" }),
            "ncryptsec" if longer_than_a_code => Err(ParseError::Secret { what: "an encrypted secret key" }),
            "npub" => Self::from_key(from_npub(bare).map_err(|_| ParseError::Key {
                why: "this npub is damaged: its checksum does not match; copy it again, whole",
            })?),
            "nprofile" if longer_than_a_code => Self::from_nprofile(bare),
            "note" | "nevent" | "naddr" if longer_than_a_code => {
                Err(ParseError::Key { why: "this names a note or an event, and no mailbox" })
            }
            _ => match hex::decode32(bare) {
                Some(key) => Self::from_key(MailboxId::from_bytes(key)),
                // The whole text, since the limit of a code's length is for the whole text.
                None => Shortcode::parse(text).map(Self::from),
            },
        }
    }

    /// Which mailbox.
    pub const fn target(&self) -> Target {
        self.target
    }

    /// URLs of relays where the mailbox may be found; from somebody else, so as hostile as any locator.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    fn from_nprofile(text: &str) -> Result<Self, ParseError> {
        let profile = Nip19Profile::from_bech32(text)
            .map_err(|_| ParseError::Key { why: "this nprofile is damaged or too long; copy it again, whole" })?;
        let mut address = Self::from_key(MailboxId::from_bytes(profile.public_key.to_bytes()))?;
        for url in profile.relays.iter().map(RelayUrl::as_str) {
            address.hints.push(url.to_owned());
            if !fit(&address.hints) {
                address.hints.pop();
            }
        }
        Ok(address)
    }

    fn from_key(mailbox: MailboxId) -> Result<Self, ParseError> {
        match XOnlyPublicKey::from_slice(mailbox.as_bytes()) {
            Ok(_) => Ok(mailbox.into()),
            Err(_) => Err(ParseError::Key { why: "this is no public key: no mailbox can have it" }),
        }
    }
}

impl From<Shortcode> for Address {
    fn from(code: Shortcode) -> Self {
        Self { target: Target::Code(code), hints: Vec::new() }
    }
}

impl From<MailboxId> for Address {
    fn from(mailbox: MailboxId) -> Self {
        Self { target: Target::Mailbox(mailbox), hints: Vec::new() }
    }
}

impl FromStr for Address {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            Target::Code(code) => code.fmt(f),
            Target::Mailbox(mailbox) if self.hints.is_empty() => f.write_str(&to_npub(&mailbox)),
            Target::Mailbox(mailbox) => {
                // The hints were checked when the address was made; were one refused now, the key alone still does.
                f.write_str(&to_nprofile(&mailbox, &self.hints).unwrap_or_else(|_| to_npub(&mailbox)))
            }
        }
    }
}

/// The `npub1…` of a mailbox (NIP-19).
pub fn to_npub(mailbox: &MailboxId) -> String {
    let Ok(npub) = nostr::key::PublicKey::from_byte_array(*mailbox.as_bytes()).to_bech32();
    npub
}

/// The mailbox of an `npub1…` (NIP-19). Only the form is checked, so that every [`to_npub`] can be read back.
///
/// # Errors
/// `InvalidInput` for anything else.
pub fn from_npub(text: &str) -> Result<MailboxId> {
    text.get(..5)
        .filter(|prefix| prefix.eq_ignore_ascii_case("npub1"))
        // As long as every npub is, so that nothing long is decoded.
        .filter(|_| text.len() == 63)
        .and_then(|_| nostr::key::PublicKey::from_bech32(text).ok())
        .map(|key| MailboxId::from_bytes(key.to_bytes()))
        .ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "this is no whole npub: it has 63 characters and a checksum")
        })
}

/// The `nprofile1…` of a mailbox (NIP-19): the key, and URLs of relays where it may be found. What links and QR codes
/// carry, so that who follows them trusts no directory.
///
/// # Errors
/// As [`Address::new`].
pub fn to_nprofile(mailbox: &MailboxId, hints: &[String]) -> Result<String> {
    let key = nostr::key::PublicKey::from_byte_array(*mailbox.as_bytes());
    Nip19Profile::new(key, relay_urls(hints)?)
        .to_bech32()
        .map_err(|error| Error::new(ErrorKind::Unexpected, "the nprofile could not be written").source(error))
}

fn relay_urls(hints: &[String]) -> Result<Vec<RelayUrl>> {
    let invalid = |message| Error::new(ErrorKind::InvalidInput, message);
    let too_much = || invalid("an address has at most 8 hints, each of at most 255 bytes and all of at most 596");
    if !fit(hints) {
        return Err(too_much());
    }
    let urls = hints
        .iter()
        .map(|hint| RelayUrl::parse(hint).map_err(|_| invalid("a hint is the wss:// or ws:// URL of a relay")))
        .collect::<Result<Vec<_>>>()?;
    // Once more: what is in another script grows when it is encoded.
    if fit(&urls.iter().map(RelayUrl::as_str).collect::<Vec<_>>()) { Ok(urls) } else { Err(too_much()) }
}

fn fit<S: AsRef<str>>(hints: &[S]) -> bool {
    let sizes = || hints.iter().map(|hint| hint.as_ref().len());
    hints.len() <= MAX_HINTS
        && sizes().all(|size| size <= MAX_HINT_BYTES)
        && sizes().map(|size| size + 2).sum::<usize>() <= MAX_ALL_HINTS_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;

    const NPUB: &str = "npub10xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqpkge6d";
    const HEX: &str = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    const CODE: &str = "F12TW-YXSDN-W8QCK-54PDT";

    fn id() -> MailboxId {
        MailboxId::from_hex(HEX).expect("an id")
    }

    /// Hints of so many bytes each.
    fn hints(sizes: &[usize]) -> Vec<String> {
        sizes.iter().map(|size| format!("wss://relay.example/{}", "a".repeat(size - 20))).collect()
    }

    #[test]
    fn one_mailbox_in_every_spelling() {
        let profile = to_nprofile(&id(), &["wss://relay.example".to_owned()]).expect("writes");
        for key in [NPUB, HEX, &profile] {
            for text in [
                key.to_owned(),
                key.to_uppercase(),
                format!(" {key}\n"),
                format!("talkbox:{key}"),
                format!("https://host.example/#/to/{key}"),
                format!("http://localhost:8080/box/#/to/{key}"),
            ] {
                assert_eq!(Address::parse(&text).expect(&text).target(), Target::Mailbox(id()), "{text}");
            }
        }
        for text in [format!("nostr:{NPUB}"), format!("NOSTR:{}", NPUB.to_uppercase()), format!("nostr:{profile}")] {
            assert_eq!(Address::parse(&text).expect(&text).target(), Target::Mailbox(id()));
        }
        for text in [format!("http://localhost/#/to/talkbox:{CODE}"), CODE.replace('-', " - ")] {
            assert_eq!(Address::parse(&text).expect(&text).to_string(), CODE);
        }
    }

    #[test]
    fn hints_travel_and_are_bounded() {
        for sizes in [vec![72, 72, 72, 72, 72, 72, 74, 74], vec![255, 255, 80], vec![30]] {
            let address = Address::new(id(), &hints(&sizes)).expect("valid");
            assert_eq!(address.hints(), hints(&sizes));
            let parsed = Address::parse(&format!("https://host.example/#/to/{address}")).expect("parses");
            assert_eq!(parsed, address);
        }
        assert_eq!(Address::from(id()).to_string(), NPUB);
        for refused in [
            hints(&[30; 9]),
            hints(&[255, 255, 81]),
            hints(&[256]),
            vec!["https://relay.example".to_owned()],
            vec![format!("wss://relay.example/{}", "é".repeat(60))],
        ] {
            assert_eq!(to_nprofile(&id(), &refused).expect_err("refused").kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn further_hints_of_somebody_else_are_dropped() {
        let key = nostr::key::PublicKey::from_byte_array(*id().as_bytes());
        let urls = (0..20).map(|at| RelayUrl::parse(&format!("wss://relay{at}.example")).expect("a URL"));
        let text = Nip19Profile::new(key, urls).to_bech32().expect("writes");
        assert_eq!(Address::parse(&text).expect("parses").hints().len(), MAX_HINTS);
    }

    #[test]
    fn secrets_are_warned_of_and_not_repeated() {
        let key = SecretKey::generate().expect("randomness");
        let nsec = key.to_nsec();
        let words = "leader monkey parrot ring guide accident before fence cannon height naive beam";
        let encrypted = "ncryptsec1qgg9947rlpvqu76pj5ecreduf9jxhselq2nae2kghhvd5g7dgjtcxfqtd67p9m0w57lspw8gsq6yphnm8623nsl8xn9j4jdzz84zm3frztj3z7s35vpzmqf6ksu8r89qk5z2zxfmu5gv8th8wclt0h4p";
        for secret in [
            nsec.as_str(),
            &nsec[..60],
            &nsec.to_uppercase(),
            &format!("nostr:{}", *nsec),
            &format!("https://host.example/#/to/{}", *nsec),
            encrypted,
            words,
            &words.to_uppercase(),
        ] {
            let error = Address::parse(secret).expect_err("a secret");
            assert!(matches!(error, ParseError::Secret { .. }), "{error:?}");
            let text = Error::from(error).to_string();
            assert!(text.contains("secret") && !text.contains("parrot") && !text.contains(&nsec[5..20]), "{text}");
        }
    }

    #[test]
    fn damaged_keys_are_told_apart_from_damaged_codes() {
        let why = |text: &str| match Address::parse(text) {
            Err(ParseError::Key { why }) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(&NPUB.replace('x', "y")).contains("damaged"));
        assert!(why("npub1").contains("damaged"));
        assert!(why(&format!("nprofile1{}", "q".repeat(40))).contains("damaged"));
        assert!(why(&format!("nevent1{}", "q".repeat(40))).contains("no mailbox"));
        // No point of the curve has the coordinate 0, nor one over the modulus.
        assert!(why(&"0".repeat(64)).contains("no public key"));
        assert!(why(&to_npub(&MailboxId::from_bytes([0xff; 32]))).contains("no public key"));
        assert_eq!(Address::parse(&HEX[1..]), Err(ParseError::Length { found: 63 }));
        assert_eq!(Address::parse(&"x".repeat(MAX_BYTES + 1)), Err(ParseError::TooLong { limit: MAX_BYTES }));
        assert_eq!(Address::parse(&"x".repeat(513)), Err(ParseError::TooLong { limit: shortcode::MAX_BYTES }));
    }

    #[test]
    fn a_code_may_begin_like_a_key() {
        // The check symbols of "NSEC1" and "NPR0F11E1" followed by zeros are whatever they are: each is a code.
        for start in ["NSEC1", "nprofile1", "NOTE1", "NCRYPTSEC1"] {
            let data = format!("{start:0<18}");
            let code = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
                .chars()
                .flat_map(|one| "0123456789ABCDEFGHJKMNPQRSTVWXYZ".chars().map(move |other| (one, other)))
                .find_map(|(one, other)| {
                    Shortcode::parse(&format!("{data}{one}{other}")).ok().map(|code| (code, one, other))
                });
            let (code, one, other) = code.expect("one of all check symbols is right");
            assert_eq!(Address::parse(&format!("{data}{one}{other}")), Ok(code.into()));
        }
    }

    #[test]
    fn npubs_round_trip_whatever_the_key() {
        for bytes in [[0; 32], [0xff; 32], *id().as_bytes()] {
            let id = MailboxId::from_bytes(bytes);
            assert_eq!(from_npub(&to_npub(&id)).expect("parses"), id);
        }
        for refused in ["", "npub1", HEX, &format!(" {NPUB}"), &to_nprofile(&id(), &[]).expect("writes")] {
            assert_eq!(from_npub(refused).expect_err("refused").kind(), ErrorKind::InvalidInput);
        }
    }
}
