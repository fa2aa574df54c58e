//! How a session of `/talkbox/sync/1` begins: what one side asks for, and what the other says to that.

use std::collections::BTreeMap;

use ipld_core::ipld::Ipld;
use talkbox_core::{Error, ErrorKind, MailboxId, Result};

use super::frame::nonsense;
use crate::orbitdb::{Cid, MAX_TIME, Month, cbor, cid_of_digest};

/// Most bytes of a request: five small fields, and room for more.
pub(super) const MAX_REQUEST: usize = 1024;
/// Most bytes of an answer: 16 heads are 800.
pub(super) const MAX_ANSWER: usize = 4096;
/// Most heads of an answer: so many an entry names in its `next`.
pub(crate) const MAX_HEADS: usize = 16;
/// Most characters of a refusal's words.
pub(super) const MAX_WORDS: usize = 256;
/// The version of the protocol.
pub(super) const VERSION: i128 = 1;

/// Of which log a session is, and what goes which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The mailbox.
    pub(crate) mailbox: MailboxId,
    /// The month of the log.
    pub(crate) month: Month,
    /// Whether whoever asks wants what it lacks: both sides compare what they have.
    pub(crate) want: bool,
    /// Whether whoever asks gives: what the other lacks, where they compare; else what it has made anew.
    pub(crate) give: bool,
}

impl Request {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        cbor::encode(&map([
            ("v", Ipld::Integer(VERSION)),
            ("give", Ipld::Bool(self.give)),
            ("want", Ipld::Bool(self.want)),
            ("month", Ipld::String(self.month.to_string())),
            ("mailbox", Ipld::Bytes(self.mailbox.as_bytes().to_vec())),
        ]))
    }

    /// Reads a request. `None` for one of another version, which is answered and no fault.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>> {
        let malformed = || nonsense("the peer's request makes no sense");
        let Ok(Ipld::Map(fields)) = cbor::decode(bytes) else { return Err(malformed()) };
        match fields.get("v") {
            Some(Ipld::Integer(VERSION)) => {}
            Some(Ipld::Integer(_)) => return Ok(None),
            _ => return Err(malformed()),
        }
        let (Some(Ipld::Bool(give)), Some(Ipld::Bool(want)), Some(Ipld::String(month)), Some(Ipld::Bytes(mailbox))) =
            (fields.get("give"), fields.get("want"), fields.get("month"), fields.get("mailbox"))
        else {
            return Err(malformed());
        };
        let (Ok(month), Ok(mailbox)) = (month.parse(), <[u8; 32]>::try_from(&mailbox[..])) else {
            return Err(malformed());
        };
        Ok(Some(Self { mailbox: MailboxId::from_bytes(mailbox), month, want: *want, give: *give }))
    }
}

/// Why a peer serves no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// It does not keep this mailbox, or not this month.
    Unknown,
    /// It has too much to do now.
    Busy,
    /// It does not want to.
    Refused,
}

impl Code {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Busy => "busy",
            Self::Refused => "refused",
        }
    }
}

/// A session that is not served, and why in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// In one word.
    pub(crate) code: Code,
    /// In more, for people.
    pub(crate) why: String,
}

impl Refusal {
    /// A refusal in these words.
    pub(crate) fn new(code: Code, why: &str) -> Self {
        Self { code, why: plain(why) }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let (kind, message) = match refusal.code {
            Code::Unknown => (ErrorKind::NotFound, "the peer does not keep this mailbox"),
            Code::Busy => (ErrorKind::RateLimited, "the peer has too much to do"),
            Code::Refused => (ErrorKind::Refused, "the peer refuses"),
        };
        let error = Self::new(kind, message);
        if refusal.why.is_empty() { error } else { error.with("words", refusal.why) }
    }
}

/// What a peer has of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Its greatest heads and their times, greatest first, at most [`MAX_HEADS`].
    pub(crate) heads: Vec<(Cid, u64)>,
    /// How many entries it holds.
    pub(crate) entries: u64,
}

/// What is said to a request.
pub(super) type Answer = std::result::Result<Standing, Refusal>;

pub(super) fn encode(answer: &Answer) -> Result<Vec<u8>> {
    let fields = match answer {
        Ok(standing) => {
            // A clock of JavaScript gets stuck one further, where nothing is built on it any more.
            let head = |(cid, time): &(Cid, u64)| {
                Ipld::List(vec![Ipld::Bytes(cid.to_bytes()), Ipld::Integer(i128::from((*time).min(MAX_TIME)))])
            };
            let heads = standing.heads.iter().take(MAX_HEADS).map(head).collect();
            map([
                ("v", Ipld::Integer(VERSION)),
                ("ok", Ipld::Bool(true)),
                ("heads", Ipld::List(heads)),
                ("entries", Ipld::Integer(i128::from(standing.entries))),
            ])
        }
        Err(refusal) => map([
            ("v", Ipld::Integer(VERSION)),
            ("ok", Ipld::Bool(false)),
            ("why", Ipld::String(refusal.why.clone())),
            ("code", Ipld::String(refusal.code.as_str().to_owned())),
        ]),
    };
    cbor::encode(&fields)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Answer> {
    read(bytes).ok_or_else(|| nonsense("the peer's answer makes no sense"))
}

fn read(bytes: &[u8]) -> Option<Answer> {
    let Ok(Ipld::Map(fields)) = cbor::decode(bytes) else { return None };
    let (Ipld::Integer(VERSION), Ipld::Bool(ok)) = (fields.get("v")?, fields.get("ok")?) else { return None };
    if !ok {
        let code = match fields.get("code") {
            Some(Ipld::String(code)) if code == Code::Unknown.as_str() => Code::Unknown,
            Some(Ipld::String(code)) if code == Code::Busy.as_str() => Code::Busy,
            // A code of a later day is a refusal all the same.
            _ => Code::Refused,
        };
        let why = if let Some(Ipld::String(why)) = fields.get("why") { why } else { "" };
        return Some(Err(Refusal::new(code, why)));
    }
    let (Ipld::List(heads), Ipld::Integer(entries)) = (fields.get("heads")?, fields.get("entries")?) else {
        return None;
    };
    if heads.len() > MAX_HEADS {
        return None;
    }
    let heads = heads.iter().map(head).collect::<Option<_>>()?;
    Some(Ok(Standing { heads, entries: u64::try_from(*entries).ok()? }))
}

/// A head: the link of an entry and a time that a clock can show, since both go into what is written on top of it.
fn head(value: &Ipld) -> Option<(Cid, u64)> {
    let Ipld::List(pair) = value else { return None };
    let [Ipld::Bytes(cid), Ipld::Integer(time)] = &pair[..] else { return None };
    let cid = Cid::try_from(&cid[..]).ok().filter(|parsed| parsed.to_bytes() == *cid)?;
    let digest = cid.hash().digest().try_into().ok()?;
    let time = u64::try_from(*time).ok().filter(|time| *time <= MAX_TIME)?;
    (cid == cid_of_digest(digest)).then_some((cid, time))
}

/// A map with these fields.
pub(super) fn map<const N: usize>(fields: [(&str, Ipld); N]) -> Ipld {
    Ipld::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>())
}

/// A peer's words, made safe to print.
pub(super) fn plain(words: &str) -> String {
    words.chars().filter(|symbol| !symbol.is_control()).take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use talkbox_core::hex;

    use super::*;

    const CID: &str = "01711220c19a797fa1fd590cd2e5b42d1cf5f246e29b91684e2f87404b81dc345c7a56a0";

    fn request() -> Request {
        let month = "2026-11".parse().expect("a month");
        Request { mailbox: MailboxId::from_bytes([0xab; 32]), month, want: true, give: false }
    }

    fn standing() -> Standing {
        let cid = cid_of_digest(&hex::decode32(&CID[8..]).expect("digits"));
        Standing { heads: vec![(cid, 7), (cid, MAX_TIME)], entries: 200_000 }
    }

    #[test]
    fn a_request_and_its_answers_have_these_bytes() {
        let bytes = request().encode().expect("encodes");
        let mailbox = "ab".repeat(32);
        let fields = "a56176016467697665f46477616e74f5656d6f6e746867323032362d3131676d61696c626f785820";
        assert_eq!(hex::encode(&bytes), format!("{fields}{mailbox}"));
        assert_eq!(Request::decode(&bytes).expect("is one"), Some(request()));

        let bytes = encode(&Ok(standing())).expect("encodes");
        let heads = format!("82825824{CID}07825824{CID}1b001fffffffffffff");
        assert_eq!(hex::encode(&bytes), format!("a4617601626f6bf5656865616473{heads}67656e74726965731a00030d40"));
        assert_eq!(decode(&bytes).expect("is one"), Ok(standing()));

        let refused = Err(Refusal::new(Code::Busy, "later"));
        let bytes = encode(&refused).expect("encodes");
        assert_eq!(hex::encode(&bytes), "a4617601626f6bf463776879656c6174657264636f64656462757379");
        assert_eq!(decode(&bytes).expect("is one"), refused);
    }

    #[test]
    fn heads_that_nobody_can_build_on_are_no_answer() {
        let answer = |cid: Vec<u8>, time: i128, count: usize| {
            let head = Ipld::List(vec![Ipld::Bytes(cid), Ipld::Integer(time)]);
            let fields = map([
                ("v", Ipld::Integer(VERSION)),
                ("ok", Ipld::Bool(true)),
                ("heads", Ipld::List(vec![head; count])),
                ("entries", Ipld::Integer(1)),
            ]);
            decode(&cbor::encode(&fields).expect("encodes")).is_ok()
        };
        let cid = hex::decode::<36>(CID).expect("digits").to_vec();
        assert!(answer(cid.clone(), 0, 16));
        assert!(!answer(cid.clone(), 0, 17));
        assert!(!answer(cid.clone(), -1, 1) && !answer(cid.clone(), i128::from(MAX_TIME) + 1, 1));
        let raw = [&[1, 0x55], &cid[2..]].concat();
        let more = [&cid[..], &[0]].concat();
        assert!(!answer(raw, 0, 1) && !answer(more, 0, 1) && !answer(Vec::new(), 0, 1));
    }

    #[test]
    fn a_clock_that_is_stuck_is_told_as_the_last_time() {
        let mut stuck = standing();
        stuck.heads[0].1 = MAX_TIME + 1;
        let read = decode(&encode(&Ok(stuck)).expect("encodes")).expect("is one").expect("no refusal");
        assert_eq!(read.heads[0].1, MAX_TIME);
    }

    #[test]
    fn a_code_of_a_later_day_is_a_refusal() {
        let fields =
            [("v", Ipld::Integer(VERSION)), ("ok", Ipld::Bool(false)), ("code", Ipld::String("tired".to_owned()))];
        let answer = decode(&cbor::encode(&map(fields)).expect("encodes")).expect("is one");
        assert_eq!(answer, Err(Refusal::new(Code::Refused, "")));
    }
}
