//! The messages of NIP-01, 42, 67 and 77, as text.
//!
//! Types of our own and not those of the `nostr` crate: an event is kept as the slice of text that the relay sent,
//! since core checks and parses it anyway and is the only one that may; and an envelope goes out as the bytes that it
//! already is. The crate's messages would parse and serialise each event once more.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use talkbox_core::{EventId, hex};

/// The number of a subscription: ours are counted, and anything else that a relay names is not ours.
pub(crate) type SubId = u64;

/// A message from a relay, borrowed from its text.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    /// An event that matches a subscription, so the relay says.
    Event(SubId, &'a RawValue),
    /// The answer to an event: whether it was taken, and the relay's words.
    Ok(EventId, bool, Cow<'a, str>),
    /// All that is stored has been sent.
    Eose(SubId, Completeness),
    /// The relay ended a subscription.
    Closed(SubId, Cow<'a, str>),
    /// Words for people, about nothing in particular.
    Notice(Cow<'a, str>),
    /// A challenge.
    Auth(Cow<'a, str>),
    /// A step of a reconciliation, in hexadecimal.
    NegMsg(SubId, Cow<'a, str>),
    /// The relay ended a reconciliation.
    NegErr(SubId, Cow<'a, str>),
    /// Something that nothing here asks for.
    Other,
}

/// What a relay says of the completeness of what it has sent (NIP-67).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completeness {
    /// There is nothing more.
    Finish,
    /// There is more, further down.
    More,
    /// It does not say.
    Unsaid,
}

impl<'a> Incoming<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// Where it is no message of a relay.
    pub(crate) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Incoming<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = Incoming<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message of a relay")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let label: Text<'de> = next(&mut items)?;
                let message = match &*label.0 {
                    "EVENT" => Incoming::Event(sub(&mut items)?, next(&mut items)?),
                    "OK" => {
                        let id: Text<'de> = next(&mut items)?;
                        let id = hex::decode32(&id.0).ok_or_else(|| de::Error::custom("an id is 64 digits"))?;
                        // The words are sometimes left out where there is nothing to say.
                        let (taken, words) = (next(&mut items)?, items.next_element::<Text<'de>>()?);
                        Incoming::Ok(EventId::from_bytes(id), taken, words.map_or(Cow::Borrowed(""), |words| words.0))
                    }
                    "EOSE" => {
                        let sub = sub(&mut items)?;
                        let completeness = match items.next_element::<Hint<'de>>()? {
                            Some(Hint::Text(Text(hint))) if hint == "finish" => Completeness::Finish,
                            Some(Hint::Text(Text(hint))) if hint == "more" => Completeness::More,
                            _ => Completeness::Unsaid,
                        };
                        Incoming::Eose(sub, completeness)
                    }
                    "CLOSED" => Incoming::Closed(sub(&mut items)?, words(&mut items)?),
                    "NOTICE" => Incoming::Notice(words(&mut items)?),
                    "AUTH" => Incoming::Auth(next::<A, Text<'de>>(&mut items)?.0),
                    "NEG-MSG" => Incoming::NegMsg(sub(&mut items)?, next::<A, Text<'de>>(&mut items)?.0),
                    "NEG-ERR" => Incoming::NegErr(sub(&mut items)?, words(&mut items)?),
                    _ => Incoming::Other,
                };
                while items.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(message)
            }
        }
        deserializer.deserialize_seq(Array)
    }
}

/// A string, borrowed where it holds no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The third element of an EOSE: a string, or whatever a later version makes of it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Hint<'a> {
    #[serde(borrow)]
    Text(Text<'a>),
    Other(de::IgnoredAny),
}

fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(items: &mut A) -> Result<T, A::Error> {
    items.next_element()?.ok_or_else(|| de::Error::custom("the message is too short"))
}

fn words<'de, A: SeqAccess<'de>>(items: &mut A) -> Result<Cow<'de, str>, A::Error> {
    Ok(items.next_element::<Text<'de>>()?.map_or(Cow::Borrowed(""), |words| words.0))
}

/// Zero is never given out, and so stands for a subscription that is not ours.
fn sub<'de, A: SeqAccess<'de>>(items: &mut A) -> Result<SubId, A::Error> {
    Ok(next::<A, Text<'de>>(items)?.0.parse().unwrap_or(0))
}

/// `["EVENT", event]`.
pub(crate) fn event(json: &str) -> String {
    spliced("[\"EVENT\",", json)
}

/// `["AUTH", event]`.
pub(crate) fn auth(json: &str) -> String {
    spliced("[\"AUTH\",", json)
}

fn spliced(head: &str, json: &str) -> String {
    let mut text = String::with_capacity(head.len() + json.len() + 1);
    text.push_str(head);
    text.push_str(json);
    text.push(']');
    text
}

/// `["REQ", id, filter…]`: one filter, or several with commas between them.
pub(crate) fn req(sub: SubId, filters: &str) -> String {
    format!("[\"REQ\",\"{sub}\",{filters}]")
}

/// `["CLOSE", id]`.
pub(crate) fn close(sub: SubId) -> String {
    format!("[\"CLOSE\",\"{sub}\"]")
}

/// `["NEG-OPEN", id, filter, message]`.
pub(crate) fn neg_open(sub: SubId, filter: &str, message: &[u8]) -> String {
    format!("[\"NEG-OPEN\",\"{sub}\",{filter},\"{}\"]", hex::encode(message))
}

/// `["NEG-MSG", id, message]`.
pub(crate) fn neg_msg(sub: SubId, message: &[u8]) -> String {
    format!("[\"NEG-MSG\",\"{sub}\",\"{}\"]", hex::encode(message))
}

/// `["NEG-CLOSE", id]`.
pub(crate) fn neg_close(sub: SubId) -> String {
    format!("[\"NEG-CLOSE\",\"{sub}\"]")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_stays_the_text_that_was_sent() {
        let Incoming::Event(7, raw) =
            Incoming::parse(r#"["EVENT", "7", {"id" : "x", "a":[1, 2]} ]"#).expect("a message")
        else {
            panic!("not an event");
        };
        assert_eq!(raw.get(), r#"{"id" : "x", "a":[1, 2]}"#);
    }

    #[test]
    fn answers_are_read_however_sparse() {
        let id = "ab".repeat(32);
        for (text, taken, said) in [
            (format!(r#"["OK","{id}",true,""]"#), true, ""),
            (format!(r#"["OK","{id}",true]"#), true, ""),
            (format!(r#"["OK","{id}",false,"blocked: \"no\"","more"]"#), false, "blocked: \"no\""),
        ] {
            let Incoming::Ok(_, ok, words) = Incoming::parse(&text).expect(&text) else { panic!("not an OK") };
            assert_eq!((ok, &*words), (taken, said));
        }
    }

    #[test]
    fn the_third_element_of_eose_is_read_where_it_is_there() {
        for (text, expected) in [
            (r#"["EOSE","1"]"#, Completeness::Unsaid),
            (r#"["EOSE","1","finish"]"#, Completeness::Finish),
            (r#"["EOSE","1","more"]"#, Completeness::More),
            (r#"["EOSE","1","later"]"#, Completeness::Unsaid),
            (r#"["EOSE","1",{"x":1}]"#, Completeness::Unsaid),
        ] {
            let Incoming::Eose(1, completeness) = Incoming::parse(text).expect(text) else { panic!("not an EOSE") };
            assert_eq!(completeness, expected, "{text}");
        }
    }

    #[test]
    fn garbage_is_an_error_or_nothing_of_ours() {
        for bad in
            ["", "{}", "[]", "[1]", r#"["OK"]"#, r#"["OK","x",true,""]"#, r#"["EVENT","1"]"#, r#"["EVENT","1",{"#]
        {
            assert!(Incoming::parse(bad).is_err(), "{bad}");
        }
        assert!(matches!(Incoming::parse(r#"["COUNT","1",{"count":1}]"#), Ok(Incoming::Other)));
        assert!(matches!(Incoming::parse(r#"["EOSE","theirs"]"#), Ok(Incoming::Eose(0, _))));
    }

    #[test]
    fn what_goes_out() {
        assert_eq!(event("{}"), r#"["EVENT",{}]"#);
        assert_eq!(req(3, "{}"), r#"["REQ","3",{}]"#);
        assert_eq!(neg_open(3, "{}", &[0x61]), r#"["NEG-OPEN","3",{},"61"]"#);
    }

    proptest! {
        #[test]
        fn reading_anything_never_panics(text in any::<String>(), label in "EVENT|OK|EOSE|CLOSED|AUTH|NEG-MSG") {
            let _ = Incoming::parse(&text);
            let _ = Incoming::parse(&format!("[\"{label}\",{text}]"));
        }
    }
}
