//! What is said over the Pinning Service API 1.0.0, and how answers are read: with distrust, since whatever comes is
//! stored, shown, or sent back.

use std::fmt;

use libp2p::Multiaddr;
use serde_json::{Value, json};

use super::token::Token;
use crate::orbitdb::Cid;

/// The key of a pin's metadata under which its log is named: by it a user, and a service, tells these pins from others.
pub(crate) const META: &str = "talkbox";
/// Most characters of a request's id: they are UUIDs, hashes, or both.
const MAX_ID: usize = 256;
/// Most characters of a name, by the API.
const MAX_NAME: usize = 255;
/// Most characters of a time by RFC 3339, with fractions as long as some write them.
const MAX_TIME: usize = 64;
/// Most characters of a CID: those of this network have 59, and reading one costs the square of its length.
const MAX_CID: usize = 256;
/// Most characters of a service's own words.
pub(crate) const MAX_WORDS: usize = 256;
/// Most characters of an address, and most addresses: what is over is not looked at.
const MAX_DELEGATE: usize = 512;
const MAX_DELEGATES: usize = super::delegates::MAX_ADDRESSES;

/// How far a service has come with a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It waits for its turn.
    Queued,
    /// It is being fetched.
    Pinning,
    /// All of it is there and kept.
    Pinned,
    /// It was given up.
    Failed,
}

impl State {
    /// Every state, as a listing has to ask for them: without being asked, a service lists only what is pinned.
    pub(crate) const ALL: &'static str = "queued,pinning,pinned,failed";

    /// As the API spells it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Pinning => "pinning",
            Self::Pinned => "pinned",
            Self::Failed => "failed",
        }
    }

    /// Reads it as the API spells it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Pinning, Self::Pinned, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }

    /// Whether the service is still at it.
    pub(crate) const fn is_under_way(self) -> bool {
        matches!(self, Self::Queued | Self::Pinning)
    }
}

/// How a service names a request. It becomes a segment of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub(crate) struct RequestId(String);

impl RequestId {
    /// Takes an id that is fit for a path. One of dots alone would lead to another path, and there turn a replacement
    /// into an addition.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_fit = !text.is_empty() && text.len() <= MAX_ID && !text.chars().any(char::is_control);
        (is_fit && text.bytes().any(|byte| byte != b'.')).then(|| Self(text.to_owned()))
    }

    /// The id.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a service is asked to pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    /// The root.
    pub(crate) cid: Cid,
    /// How the service's own pages show it.
    pub(crate) name: String,
    /// The address of the log.
    pub(crate) log: String,
    /// Where it can be fetched.
    pub(crate) origins: Vec<Multiaddr>,
}

impl Pin {
    /// As it is sent.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let origins: Vec<_> = self.origins.iter().map(ToString::to_string).collect();
        let name: String = self.name.chars().take(MAX_NAME).collect();
        let meta = json!({ META: self.log });
        let mut body = json!({ "cid": self.cid.to_string(), "name": name, "meta": meta });
        // Some services refuse an empty list.
        if !origins.is_empty() {
            body["origins"] = origins.into();
        }
        body.to_string().into_bytes()
    }
}

/// What a service says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinStatus {
    /// The request.
    pub(crate) id: RequestId,
    /// How far it is.
    pub(crate) state: State,
    /// When it was made, in the service's words: listings go on by it.
    pub(crate) created: String,
    /// What is pinned.
    pub(crate) cid: Cid,
    /// The name that it was given.
    pub(crate) name: Option<String>,
    /// The log that it was made for, where it is one of ours.
    pub(crate) log: Option<String>,
    /// Peers that fetch for the service; not checked yet.
    pub(crate) delegates: Vec<String>,
    /// What else the service says of it.
    pub(crate) details: Option<String>,
}

impl PinStatus {
    /// Reads one. Only what is needed has to be right.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let pin = value.get("pin")?;
        let text =
            |value: Option<&Value>, most: usize| Some(plain(value?.as_str()?, most)).filter(|text| !text.is_empty());
        let delegates = value.get("delegates").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let delegates = delegates.iter().take(MAX_DELEGATES).filter_map(Value::as_str);
        Some(Self {
            id: RequestId::parse(value.get("requestid")?.as_str()?)?,
            state: State::parse(value.get("status")?.as_str()?)?,
            created: text(value.get("created"), MAX_TIME).unwrap_or_default(),
            cid: read_cid(pin.get("cid")?.as_str()?)?,
            name: text(pin.get("name"), MAX_NAME),
            log: text(pin.get("meta").and_then(|meta| meta.get(META)), MAX_NAME),
            delegates: delegates.filter(|text| text.len() <= MAX_DELEGATE).map(str::to_owned).collect(),
            details: text(value.get("info").and_then(|info| info.get("status_details")), MAX_WORDS),
        })
    }
}

/// All that a service has, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The latest first.
    pub(crate) pins: Vec<PinStatus>,
    /// How many could not be read.
    pub(crate) unreadable: usize,
    /// Whether there are more than are listed.
    pub(crate) has_more: bool,
}

/// One page of a listing.
#[derive(Debug)]
pub(super) struct ListPage {
    pub(super) pins: Vec<PinStatus>,
    pub(super) unreadable: usize,
    /// How many match in all, where the service says so.
    pub(super) count: Option<u64>,
}

impl ListPage {
    /// Reads one. What cannot be read in it is counted, and the rest is taken.
    pub(super) fn read(value: &Value, most: usize) -> Option<Self> {
        let results = value.get("results")?.as_array()?;
        let pins: Vec<_> = results.iter().take(most).filter_map(PinStatus::read).collect();
        let unreadable = results.len() - pins.len();
        Some(Self { pins, unreadable, count: value.get("count").and_then(Value::as_u64) })
    }

    /// How many the service gave.
    pub(super) fn len(&self) -> usize {
        self.pins.len() + self.unreadable
    }
}

/// Reads an answer, and takes the token out of every text in it.
pub(super) fn read_json(body: &[u8], token: &Token) -> Option<Value> {
    let mut value = serde_json::from_slice(body).ok()?;
    hide(&mut value, token);
    Some(value)
}

/// Deeper than the parser lets anything be it cannot get.
fn hide(value: &mut Value, token: &Token) {
    match value {
        Value::String(text) => *text = token.taken_out_of(std::mem::take(text)),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, token)),
        // Names of members are not passed on.
        Value::Object(members) => members.iter_mut().for_each(|(_, member)| hide(member, token)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A foreign text at a length that is fit to be kept, and safe to print.
pub(super) fn plain(text: &str, most: usize) -> String {
    text.chars().filter(|symbol| !symbol.is_control()).take(most).collect()
}

fn read_cid(text: &str) -> Option<Cid> {
    (text.len() <= MAX_CID).then(|| Cid::try_from(text).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

    fn status() -> Value {
        json!({
            "requestid": "7f4b", "status": "pinning", "created": "2026-11-30T10:00:00.123Z",
            "pin": { "cid": CID, "name": "n", "origins": [], "meta": { "talkbox": "/orbitdb/z", "other": 7 } },
            "delegates": ["/ip4/1.1.1.1/tcp/1", 7, "x"],
            "info": { "status_details": "Queue position: 7 of 9\u{1b}[2J" },
        })
    }

    #[test]
    fn a_status_is_read() {
        let read = PinStatus::read(&status()).expect("a status");
        assert_eq!((read.id.as_str(), read.state), ("7f4b", State::Pinning));
        assert_eq!((read.cid.to_string().as_str(), read.log.as_deref()), (CID, Some("/orbitdb/z")));
        assert_eq!(read.delegates, ["/ip4/1.1.1.1/tcp/1", "x"]);
        assert_eq!(read.details.as_deref(), Some("Queue position: 7 of 9[2J"));
    }

    #[test]
    fn what_may_be_left_out_or_null_may() {
        let mut value = status();
        for (name, given) in [("delegates", Value::Null), ("info", json!("x")), ("created", json!(7))] {
            value[name] = given;
        }
        value["pin"] = json!({ "cid": CID, "name": null, "origins": null, "meta": null });
        let read = PinStatus::read(&value).expect("a status");
        assert_eq!((read.name, read.log, read.details, read.created.as_str()), (None, None, None, ""));
        assert!(read.delegates.is_empty());
    }

    #[test]
    fn what_is_needed_has_to_be_right() {
        for (name, bad) in [
            ("requestid", json!("")),
            ("requestid", json!("..")),
            ("requestid", json!("a\nb")),
            ("requestid", json!("a".repeat(300))),
            ("requestid", json!(7)),
            ("status", json!("done")),
            ("status", json!(null)),
            ("pin", json!({ "cid": "bafy" })),
            ("pin", json!({ "cid": CID.repeat(20) })),
            ("pin", json!({})),
            ("pin", json!([CID])),
        ] {
            let mut value = status();
            value[name] = bad.clone();
            assert!(PinStatus::read(&value).is_none(), "{name}: {bad}");
        }
        for bad in [json!(null), json!([]), json!("x"), json!(7), json!({})] {
            assert!(PinStatus::read(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn one_bad_item_does_not_hide_the_others() {
        let page = ListPage::read(&json!({ "count": 3, "results": [7, status(), {}] }), 100).expect("a page");
        assert_eq!((page.pins.len(), page.unreadable, page.count), (1, 2, Some(3)));
        let page = ListPage::read(&json!({ "count": "x", "results": vec![status(); 5] }), 2).expect("a page");
        assert_eq!((page.pins.len(), page.len(), page.count), (2, 5, None));
        assert!(ListPage::read(&json!({ "count": 0 }), 100).is_none());
    }

    #[test]
    fn the_token_is_taken_out_of_every_text() {
        let token = Token::parse("s3cr3t").expect("a token");
        let body = br#"{"a":["\u00733cr3t",{"b":"the s3cr3t is s3cr3t"}],"c":7}"#;
        let read = read_json(body, &token).expect("JSON").to_string();
        assert!(!read.contains("s3cr3t") && read.contains("the (hidden) is (hidden)"), "{read}");
    }

    #[test]
    fn a_pin_as_it_is_sent() {
        let pin = Pin {
            cid: CID.parse().expect("a CID"),
            name: "n".repeat(300),
            log: "/orbitdb/z".to_owned(),
            origins: vec!["/ip4/1.1.1.1/tcp/1".parse().expect("an address")],
        };
        let sent: Value = serde_json::from_slice(&pin.to_json()).expect("JSON");
        let expected = json!({
            "cid": CID, "name": "n".repeat(255), "origins": ["/ip4/1.1.1.1/tcp/1"], "meta": { "talkbox": "/orbitdb/z" },
        });
        assert_eq!(sent, expected);
        let sent: Value = serde_json::from_slice(&Pin { origins: Vec::new(), ..pin }.to_json()).expect("JSON");
        assert_eq!(sent.get("origins"), None, "an empty list is refused by some");
    }
}
