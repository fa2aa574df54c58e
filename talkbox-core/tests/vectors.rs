//! Every vector of the formats, through the public interface alone. The steps inside a derivation are compared in the
//! unit tests of `passphrase` and `shortcode`.

use serde_json::Value;
use talkbox_core::{
    MailboxId,
    address::{Address, Target, from_npub, to_npub},
    keys::SecretKey,
    passphrase,
    shortcode::{ParseError, Shortcode},
};

fn cases(vectors: &str, name: &str) -> Vec<Value> {
    let mut vectors: Value = serde_json::from_str(vectors).expect("JSON");
    match vectors[name].take() {
        Value::Array(cases) if !cases.is_empty() => cases,
        other => panic!("{name}: {other}"),
    }
}

fn keys(name: &str) -> Vec<Value> {
    cases(include_str!("vectors/keys.json"), name)
}

fn shortcodes(name: &str) -> Vec<Value> {
    cases(include_str!("vectors/shortcodes.json"), name)
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_else(|| panic!("{name} in {case}"))
}

fn mailbox(case: &Value) -> MailboxId {
    text(case, "mailbox_id").parse().expect("64 digits")
}

/// Key, mailbox id and npub; the codes are compared once for all vectors, in `codes`.
fn assert_key(key: &SecretKey, case: &Value) {
    let secret: String = key.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(secret, text(case, "secret_key"));
    assert_eq!(key.id(), mailbox(case));
    assert_eq!(to_npub(&key.id()), text(case, "npub"));
}

#[test]
fn keys_from_passphrases() {
    for case in keys("passphrase") {
        let key = passphrase::derive(text(&case, "passphrase"), text(&case, "mailbox_name")).expect("derives");
        assert_key(&key, &case);
    }
}

#[test]
fn keys_from_words() {
    for case in keys("words") {
        assert_eq!(text(&case, "path"), "m/44'/1237'/0'/0/0");
        assert_key(&SecretKey::from_words(text(&case, "words"), 0).expect("derives"), &case);
    }
}

#[test]
fn codes() {
    let mut done: Vec<MailboxId> = Vec::new();
    for case in [shortcodes("codes"), keys("passphrase"), keys("words")].concat() {
        let (id, code) = (mailbox(&case), Shortcode::parse(text(&case, "shortcode")).expect("valid"));
        assert_eq!(code.to_string(), text(&case, "shortcode"));
        if !case["npub"].is_null() {
            assert_eq!(
                (to_npub(&id), from_npub(text(&case, "npub")).expect("valid")),
                (text(&case, "npub").into(), id)
            );
        }
        // A fifth of a second each, and some keys are in both files.
        if !done.contains(&id) {
            assert_eq!(Shortcode::of(&id), code);
            done.push(id);
        }
    }
    assert_eq!(done.len(), 7);
}

#[test]
fn another_mailbox_does_not_match() {
    let code = Shortcode::parse("F12TW-YXSDN-W8QCK-54PDT").expect("valid");
    assert!(!code.matches(&MailboxId::from_bytes([1; 32])));
}

#[test]
fn accepted() {
    for case in shortcodes("accept") {
        let (input, means) = (text(&case, "input"), text(&case, "means"));
        let code = Shortcode::parse(input).unwrap_or_else(|error| panic!("{input:?}: {error}"));
        assert_eq!(code.to_string(), means, "{input:?}");
        assert_eq!(Address::parse(input).expect(input).target(), Target::Code(code));
    }
}

#[test]
fn same_mailbox() {
    for case in shortcodes("same_mailbox") {
        let address = Address::parse(text(&case, "input")).expect("valid");
        assert_eq!(address.target(), Target::Mailbox(mailbox(&case)));
    }
}

#[test]
fn rejected() {
    for case in shortcodes("reject") {
        let error = Shortcode::parse(text(&case, "input")).expect_err("refused");
        let why = text(&case, "why");
        let expected = match &error {
            ParseError::WrongCheck { .. } => ["one wrong symbol", "two wrong symbols", "adjacent swap"].contains(&why),
            ParseError::Length { found } => why == format!("{found} symbols"),
            ParseError::Symbol { symbol: 'U', position: 4 } => why == "U is not a symbol",
            ParseError::Symbol { symbol: 'é', position: 20 } => why == "not a symbol",
            ParseError::Symbol { symbol: '–', position: 6 } => why == "en dash is not a dash here",
            ParseError::Symbol { symbol: '\u{a0}', position: 6 } => why == "no-break space is not a space here",
            ParseError::Empty => ["empty", "no symbols"].contains(&why),
            ParseError::AllZero => why == "the all-zero code",
            ParseError::TooLong { limit: 512 } => why == "longer than 512 bytes",
            _ => false,
        };
        assert!(expected, "{why}: {error:?}");
        let possible = serde_json::to_value(error.possible()).expect("JSON");
        assert_eq!(possible, case.get("possible").cloned().unwrap_or_else(|| Value::Array(vec![])), "{why}");

        match Address::parse(text(&case, "input")).expect_err("refused") {
            // Addresses may be longer than codes, and have a limit of their own.
            ParseError::TooLong { .. } => assert!(matches!(error, ParseError::TooLong { .. })),
            other => assert_eq!(other, error),
        }
    }
}
