//! Properties of codes and addresses, with a second implementation of the check symbols: by the roots of the polynomial
//! in place of its remainder.

use proptest::{collection::vec, prelude::*};
use talkbox_core::{
    ErrorKind, MailboxId,
    address::{Address, from_npub, to_npub},
    keys::{RecoveryWords, SecretKey},
    shortcode::{Change, ParseError, Shortcode},
};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Powers of α = 2 in GF(32) with x⁵ + x² + 1.
fn power(of: usize) -> u8 {
    (0..of % 31).fold(1, |value, _| if value & 16 == 0 { value << 1 } else { value << 1 ^ 0b10_0101 })
}

/// The value of the polynomial at α^root, by logarithms.
fn at_root(values: &[u8], root: usize) -> u8 {
    let log = |value: u8| (0..31).find(|exponent| power(*exponent) == value).expect("not zero");
    values
        .iter()
        .rev()
        .enumerate()
        .filter(|(_, value)| **value != 0)
        .fold(0, |sum, (exponent, value)| sum ^ power(log(*value) + exponent * root))
}

fn spelled(values: &[u8]) -> String {
    values.iter().map(|value| char::from(ALPHABET[usize::from(*value)])).collect()
}

/// Twenty values of a valid code.
fn codes() -> impl Strategy<Value = Vec<u8>> {
    vec(0_u8..32, 18).prop_filter_map("the code of zeros", |data| {
        let complete = |check: usize| [data.clone(), vec![(check / 32) as u8, (check % 32) as u8]].concat();
        let code = (0..1024).map(complete).find(|code| at_root(code, 1) == 0 && at_root(code, 2) == 0)?;
        (code != [0; 20]).then_some(code)
    })
}

proptest! {
    #[test]
    fn a_valid_code_round_trips_in_every_spelling(code in codes(), style in vec((0_usize..5, any::<bool>()), 20)) {
        let symbols = spelled(&code);
        let parsed = Shortcode::parse(&symbols).expect("valid");
        prop_assert_eq!(parsed.symbols(), &symbols);
        prop_assert_eq!(parsed.to_string().replace('-', ""), symbols.as_str());
        let mut loose = String::new();
        for (symbol, (separator, lower)) in symbols.chars().zip(style) {
            loose.push_str(["", "-", " ", "\t", "--"][separator]);
            let symbol = match (symbol, lower) {
                ('0', true) => 'o',
                ('1', true) => 'l',
                ('1', false) => 'I',
                (symbol, true) => symbol.to_ascii_lowercase(),
                (symbol, false) => symbol,
            };
            loose.push(symbol);
        }
        for text in [parsed.to_string(), loose.clone(), format!("TalkBox:{loose}"), format!("https://h/#/to/{loose}")] {
            prop_assert_eq!(Shortcode::parse(&text), Ok(parsed));
            prop_assert_eq!(Address::parse(&text), Ok(Address::from(parsed)));
        }
    }

    #[test]
    fn one_wrong_symbol_is_detected_and_found(code in codes(), at in 0_usize..20, error in 1_u8..32) {
        let right = Shortcode::parse(&spelled(&code)).expect("valid");
        let mut wrong = code;
        wrong[at] ^= error;
        let error = Shortcode::parse(&spelled(&wrong)).expect_err("wrong");
        prop_assert_eq!(error.possible().iter().filter(|one| one.change == Change::Symbol).count(), 1);
        prop_assert_eq!((error.possible()[0].code, error.possible()[0].position), (right, at + 1));
    }

    #[test]
    fn two_wrong_symbols_are_detected(code in codes(), one in 0_usize..20, other in 1_usize..20, errors in (1_u8..32, 1_u8..32)) {
        let right = Shortcode::parse(&spelled(&code)).expect("valid");
        let mut wrong = code;
        wrong[one] ^= errors.0;
        wrong[(one + other) % 20] ^= errors.1;
        match Shortcode::parse(&spelled(&wrong)) {
            Err(ParseError::WrongCheck { possible }) => {
                // At most one of each; and whatever is offered is valid.
                prop_assert!(possible.len() <= 2 && possible.iter().filter(|one| one.change == Change::Swap).count() <= 1);
                for possible in possible {
                    prop_assert_eq!(Shortcode::parse(&possible.code.to_string()), Ok(possible.code));
                    prop_assert!(possible.code != right || possible.change == Change::Swap);
                }
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_swap_of_neighbours_is_detected_and_found(code in codes(), at in 0_usize..19) {
        prop_assume!(code[at] != code[at + 1]);
        let right = Shortcode::parse(&spelled(&code)).expect("valid");
        let mut wrong = code;
        wrong.swap(at, at + 1);
        let error = Shortcode::parse(&spelled(&wrong)).expect_err("wrong");
        let found = error.possible().last().expect("the swap");
        prop_assert_eq!((found.code, found.change, found.position), (right, Change::Swap, at + 1));
    }

    #[test]
    fn parsing_anything_never_panics(text in any::<String>()) {
        let _ = (Shortcode::parse(&text), Address::parse(&text), from_npub(&text));
        let _ = (SecretKey::from_nsec(&text), SecretKey::from_words(&text, 0), RecoveryWords::resemble(&text));
    }

    #[test]
    fn parsing_anything_like_an_address_never_panics(
        text in "(https://h)?(#/to/)?(talkbox:|NOSTR:)?(npub1|nprofile1|nsec1|ncryptsec1|nsec)?[0-9a-zA-Z é-]{0,80}",
    ) {
        for parsed in [Address::parse(&text).ok(), Shortcode::parse(&text).ok().map(Address::from)].into_iter().flatten() {
            prop_assert_eq!(Address::parse(&parsed.to_string()), Ok(parsed));
        }
    }

    #[test]
    fn every_key_round_trips(bytes in any::<[u8; 32]>()) {
        let id = MailboxId::from_bytes(bytes);
        prop_assert_eq!(from_npub(&to_npub(&id)).expect("valid"), id);
        match SecretKey::from_bytes(&bytes) {
            Ok(key) => {
                prop_assert_eq!(SecretKey::from_nsec(&key.to_nsec()).expect("valid").id(), key.id());
                for text in [to_npub(&key.id()), key.id().to_hex()] {
                    prop_assert_eq!(Address::parse(&text), Ok(Address::from(key.id())));
                }
            }
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::InvalidInput),
        }
    }

    #[test]
    fn no_words_are_accepted_but_those_with_the_checksum(swap in (0_usize..12, 0_usize..12)) {
        let words = RecoveryWords::generate().expect("randomness");
        let mut list: Vec<&str> = words.as_str().split(' ').collect();
        list.swap(swap.0, swap.1);
        // A checksum of four bits lets one in sixteen through: then at least the mailbox is another one.
        if let Ok(key) = SecretKey::from_words(&list.join(" "), 0) {
            let right = SecretKey::from_words(words.as_str(), 0).expect("valid");
            prop_assert_eq!(key.id() == right.id(), list.join(" ") == words.as_str());
        }
    }
}
