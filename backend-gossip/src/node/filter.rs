//! Filters of NIP-01: read from JSON within bounds, and compared with an event in memory.
//!
//! The store compares the same filters in SQL; a property test keeps the two alike.

use std::{collections::BTreeSet, fmt};

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use talkbox_core::{EventId, MailboxId, PublicKey, hex};

/// What a filter takes in memory besides its values, with its places among the subscriptions.
const FILTER_BYTES: usize = 256;
/// What a value takes: 32 bytes in a tree that is half empty, and its place among the subscriptions; or the head of a
/// string.
const VALUE_BYTES: usize = 128;

/// What filters look at, of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) id: EventId,
    pub(crate) author: PublicKey,
    pub(crate) created_at: u64,
    pub(crate) kind: u16,
    /// The `p` tag, of which an event here has at most one.
    pub(crate) mailbox: Option<MailboxId>,
    /// Names and first values of the other tags whose name is one letter.
    pub(crate) letters: Vec<(char, String)>,
}

/// One filter. A list that is absent allows everything; an empty one allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) ids: Option<BTreeSet<EventId>>,
    pub(crate) authors: Option<BTreeSet<PublicKey>>,
    pub(crate) kinds: Option<BTreeSet<u16>>,
    /// `#p`.
    pub(crate) mailboxes: Option<BTreeSet<MailboxId>>,
    /// The other tags of one letter; each has to match.
    pub(crate) letters: Vec<(char, BTreeSet<String>)>,
    pub(crate) since: Option<u64>,
    pub(crate) until: Option<u64>,
    pub(crate) limit: Option<u64>,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// What is wrong with it, in words for the client.
    pub(crate) fn parse(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| format!("not a filter: {error}"))
    }

    /// Whether the event is one that the filter asks for. `limit` is no part of it.
    pub(crate) fn matches(&self, event: &Facts) -> bool {
        self.allows_kind(event.kind)
            && self.since.is_none_or(|since| since <= event.created_at)
            && self.until.is_none_or(|until| event.created_at <= until)
            && self.mailboxes.as_ref().is_none_or(|keys| event.mailbox.is_some_and(|key| keys.contains(&key)))
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&event.id))
            && self.authors.as_ref().is_none_or(|authors| authors.contains(&event.author))
            && self.letters.iter().all(|(letter, values)| {
                event.letters.iter().any(|(name, value)| name == letter && values.contains(value))
            })
    }

    /// How many values its lists have.
    pub(crate) fn values(&self) -> usize {
        self.ids.as_ref().map_or(0, BTreeSet::len)
            + self.authors.as_ref().map_or(0, BTreeSet::len)
            + self.kinds.as_ref().map_or(0, BTreeSet::len)
            + self.mailboxes.as_ref().map_or(0, BTreeSet::len)
            + self.letters.iter().map(|(_, values)| values.len()).sum::<usize>()
    }

    /// About how many bytes it takes while it is kept.
    pub(crate) fn bytes(&self) -> usize {
        let text: usize = self.letters.iter().flat_map(|(_, values)| values).map(String::len).sum();
        FILTER_BYTES + self.values() * VALUE_BYTES + text
    }

    /// Whether events of this kind can match at all.
    pub(crate) fn allows_kind(&self, kind: u16) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Filter;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Filter, A::Error> {
        let mut filter = Filter::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "ids" => filter.ids = Some(keys(&mut map)?.into_iter().map(EventId::from_bytes).collect()),
                "authors" => filter.authors = Some(keys(&mut map)?.into_iter().map(PublicKey::from_bytes).collect()),
                "#p" => filter.mailboxes = Some(keys(&mut map)?.into_iter().map(MailboxId::from_bytes).collect()),
                "kinds" => filter.kinds = Some(map.next_value::<Vec<u16>>()?.into_iter().collect()),
                "since" => filter.since = Some(map.next_value()?),
                "until" => filter.until = Some(map.next_value()?),
                "limit" => filter.limit = Some(map.next_value()?),
                _ => match letter(&name) {
                    Some(letter) if filter.letters.iter().all(|(known, _)| *known != letter) => {
                        let values = map.next_value::<Vec<String>>()?;
                        filter.letters.push((letter, values.into_iter().collect()));
                    }
                    // To leave out a condition would give more than was asked for.
                    _ => {
                        map.next_value::<IgnoredAny>()?;
                        return Err(A::Error::custom(format_args!("unknown or repeated condition `{}`", short(&name))));
                    }
                },
            }
        }
        Ok(filter)
    }
}

/// Keys and ids: 64 lower-case digits each.
fn keys<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Vec<[u8; 32]>, A::Error> {
    map.next_value::<Vec<String>>()?
        .iter()
        .map(|digits| {
            hex::decode_lower(digits).ok_or_else(|| A::Error::custom("64 lower-case hexadecimal digits expected"))
        })
        .collect()
}

/// The letter of a condition on a tag, such as `#d`.
fn letter(name: &str) -> Option<char> {
    let mut characters = name.strip_prefix('#')?.chars();
    characters.next().filter(char::is_ascii_alphabetic).filter(|_| characters.next().is_none())
}

/// Enough of a client's word to recognise it by.
fn short(name: &str) -> String {
    name.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_unknown_ones_refused() {
        let id = "0a".repeat(32);
        let filter =
            Filter::parse(&format!(r##"{{"ids":["{id}"],"kinds":[1059],"#d":["X"],"limit":3}}"##)).expect("a filter");
        assert_eq!(filter.ids.map(|ids| ids.len()), Some(1));
        assert_eq!(filter.letters, [('d', BTreeSet::from(["X".to_owned()]))]);
        assert_eq!(filter.limit, Some(3));
        let upper = format!(r#"{{"ids":["{}"]}}"#, "0A".repeat(32));
        for wrong in [
            r#"{"search":"x"}"#,
            r#"{"ids":["abcd"]}"#,
            r#"{"kinds":[70000]}"#,
            r#"{"since":-1}"#,
            r#"{"limit":1.5}"#,
            "[]",
            &upper,
        ] {
            assert!(Filter::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_of_all_lists_are_counted() {
        let id = "0a".repeat(32);
        let json =
            format!(r##"{{"ids":["{id}"],"authors":["{id}"],"#p":["{id}"],"kinds":[1,2],"#d":["a"],"#e":["b"]}}"##);
        let filter = Filter::parse(&json).expect("a filter");
        assert_eq!(filter.values(), 7);
        assert!(filter.bytes() > Filter::default().bytes());
    }
}
