//! What a client sends (NIP-01, 42, 45, 77), taken apart as far as its verb tells.

use serde_json::value::RawValue;
use talkbox_core::{EventId, hex};

use super::MAX_SUBSCRIPTION_NAME;
use crate::node::filter::Filter;

/// A message of a client.
#[derive(Debug)]
pub(crate) enum Request<'a> {
    Event { id: EventId, json: &'a str },
    Auth { id: EventId, json: &'a str },
    Req { name: String, filters: Vec<Filter> },
    Count { name: String, filters: Vec<Filter> },
    Close { name: String },
    NegOpen { name: String, filter: Filter, message: Vec<u8> },
    NegMsg { name: String, message: Vec<u8> },
    NegClose { name: String },
}

/// What a request may have in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    pub(crate) filters: usize,
    /// In all lists of all filters together.
    pub(crate) values: usize,
}

/// Why a message cannot be taken, and what the answer to it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Nothing that it could be answered by is in it.
    Notice(String),
    /// The request of this name.
    Closed { name: String, why: String },
    /// The reconciliation of this name.
    Negentropy { name: String, why: String },
}

impl<'a> Request<'a> {
    /// Takes a message apart. The text is no longer than a message may be. What is nested is skipped without recursion,
    /// or refused where something flat is expected, so that depth costs nothing.
    pub(crate) fn parse(text: &'a str, most: Most) -> Result<Self, Unreadable> {
        let parts: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| notice("not a JSON array"))?;
        let [verb, rest @ ..] = &parts[..] else { return Err(notice("an empty array")) };
        let verb: String = serde_json::from_str(verb.get()).map_err(|_| notice("the verb is not a string"))?;
        match (verb.as_str(), rest) {
            ("EVENT", [event]) => Ok(Self::Event { id: id_of(event)?, json: event.get() }),
            ("AUTH", [event]) => Ok(Self::Auth { id: id_of(event)?, json: event.get() }),
            ("REQ", [name, filters @ ..]) => {
                let name = subscription(name)?;
                parse_filters(filters, most)
                    .map(|filters| Self::Req { name: name.clone(), filters })
                    .map_err(|why| Unreadable::Closed { name, why })
            }
            ("COUNT", [name, filters @ ..]) => {
                let name = subscription(name)?;
                parse_filters(filters, most)
                    .map(|filters| Self::Count { name: name.clone(), filters })
                    .map_err(|why| Unreadable::Closed { name, why })
            }
            ("CLOSE", [name]) => Ok(Self::Close { name: subscription(name)? }),
            ("NEG-OPEN", [name, filter, message]) => {
                let name = subscription(name)?;
                parse_filter(filter, &mut 0, most.values)
                    .and_then(|filter| Ok(Self::NegOpen { name: name.clone(), filter, message: binary(message)? }))
                    .map_err(|why| Unreadable::Negentropy { name, why })
            }
            ("NEG-MSG", [name, message]) => {
                let name = subscription(name)?;
                binary(message)
                    .map(|message| Self::NegMsg { name: name.clone(), message })
                    .map_err(|why| Unreadable::Negentropy { name, why })
            }
            ("NEG-CLOSE", [name]) => Ok(Self::NegClose { name: subscription(name)? }),
            _ => Err(notice("an unknown verb, or not the parts that it has")),
        }
    }
}

/// The id that an event claims: what its answer is addressed by, even where nothing else in it can be read.
fn id_of(event: &RawValue) -> Result<EventId, Unreadable> {
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        id: std::borrow::Cow<'a, str>,
    }
    serde_json::from_str::<Head<'_>>(event.get())
        .ok()
        .and_then(|head| hex::decode_lower(&head.id))
        .map(EventId::from_bytes)
        .ok_or_else(|| notice("an event without an id of 64 lower-case digits"))
}

fn subscription(name: &RawValue) -> Result<String, Unreadable> {
    serde_json::from_str::<String>(name.get())
        .ok()
        .filter(|name| !name.is_empty() && name.chars().count() <= MAX_SUBSCRIPTION_NAME)
        .ok_or_else(|| notice("the name of a subscription is a string of 1 to 64 characters"))
}

fn parse_filters(filters: &[&RawValue], most: Most) -> Result<Vec<Filter>, String> {
    if filters.is_empty() || filters.len() > most.filters {
        return Err(format!("1 to {} filters expected", most.filters));
    }
    let mut values = 0;
    filters.iter().map(|filter| parse_filter(filter, &mut values, most.values)).collect()
}

/// Reads a filter, and adds its values to those of the request.
fn parse_filter(filter: &RawValue, values: &mut usize, most: usize) -> Result<Filter, String> {
    let filter = Filter::parse(filter.get())?;
    *values += filter.values();
    if *values > most { Err(format!("more than {most} values in one request: ask in several")) } else { Ok(filter) }
}

fn binary(message: &RawValue) -> Result<Vec<u8>, String> {
    let wrong = || "the message is not hexadecimal".to_owned();
    let digits: &str = serde_json::from_str(message.get()).map_err(|_| wrong())?;
    if digits.len() % 2 == 1 {
        return Err(wrong());
    }
    digits
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(hex::decode::<1>).map(|[byte]| byte).ok_or_else(wrong))
        .collect()
}

fn notice(why: &str) -> Unreadable {
    Unreadable::Notice(why.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: Most = Most { filters: 2, values: 3 };

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), json in r#"\["(EVENT|REQ|AUTH|NEG-OPEN)"(,("x"|\{\}|\[\]|1)){0,4}\]"#) {
            let _read = Request::parse(&text, MOST);
            let _read = Request::parse(&json, MOST);
        }
    }

    #[test]
    fn nesting_is_no_danger() {
        let deep = format!(r#"["REQ","x",{}1{}]"#, "[".repeat(60_000), "]".repeat(60_000));
        assert!(matches!(Request::parse(&deep, MOST), Err(Unreadable::Closed { .. })));
        let deep = deep.replace(r#""x",["#, r#""x",{"search":["#).replace("]]]]", "]]]}]");
        assert!(Request::parse(&deep, MOST).is_err());
    }

    #[test]
    fn what_has_a_name_is_refused_by_it() {
        let refused = |text: &str| Request::parse(text, MOST).expect_err("refused");
        assert!(matches!(refused(r#"["REQ","a"]"#), Unreadable::Closed { name, .. } if name == "a"));
        assert!(matches!(refused(r#"["REQ","a",{},{},{}]"#), Unreadable::Closed { .. }));
        for list in
            [r#"{"kinds":[1,2,3,4]}"#, r##"{"kinds":[1,2],"#d":["a","b"]}"##, r#"{"kinds":[1,2]},{"kinds":[1,2]}"#]
        {
            assert!(matches!(refused(&format!(r#"["REQ","a",{list}]"#)), Unreadable::Closed { .. }), "{list}");
            assert!(matches!(refused(&format!(r#"["COUNT","a",{list}]"#)), Unreadable::Closed { .. }), "{list}");
        }
        assert!(matches!(refused(r#"["NEG-OPEN","a",{"kinds":[1,2,3,4]},"61"]"#), Unreadable::Negentropy { .. }));
        assert!(matches!(refused(r#"["NEG-OPEN","a",{},"0"]"#), Unreadable::Negentropy { .. }));
        assert!(matches!(refused(&format!(r#"["CLOSE","{}"]"#, "x".repeat(65))), Unreadable::Notice(_)));
    }
}
