//! Addresses of logs, and the two blocks that define one: manifest and access controller.
//!
//! The address follows from the name and from who may write, and from nothing else: so anyone who knows the mailbox
//! computes it, and both blocks, without asking.

use std::{fmt, str::FromStr, sync::Arc};

use talkbox_core::{Error, ErrorKind, Result};

use super::{Block, Cid, Value, cbor, link};

/// What stands before the CID of a manifest in an address, and before that of an access controller in a manifest.
const LOG: &str = "/orbitdb/";
const ACCESS: &str = "/ipfs/";
/// Comes before the address in the name of the protocol that exchanges heads.
const HEADS: &str = "/orbitdb/heads";
/// The kinds of log and of access controller that we have.
const EVENTS: &str = "events";
const IPFS: &str = "ipfs";
/// Who may write where anybody may.
const ANYBODY: &str = "*";

/// `/orbitdb/zdpu…`: the address of a log, its id in each entry, and its topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LogAddress {
    text: Arc<str>,
    manifest: Cid,
}

impl LogAddress {
    /// The address of the log with this manifest.
    pub(crate) fn of(manifest: &Cid) -> Self {
        Self { text: format!("{LOG}{}", link::to_text(manifest)).into(), manifest: *manifest }
    }

    /// As it is written everywhere.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The CID of the manifest.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) const fn manifest(&self) -> Cid {
        self.manifest
    }

    /// The protocol over which the heads of this log are exchanged.
    pub(crate) fn heads_protocol(&self) -> String {
        format!("{HEADS}{self}")
    }

    /// The log whose heads are exchanged by a protocol.
    pub(crate) fn of_heads_protocol(protocol: &str) -> Option<Self> {
        protocol.strip_prefix("/orbitdb/heads")?.parse().ok()
    }
}

impl FromStr for LogAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let manifest = text.strip_prefix(LOG).and_then(link::parse);
        let manifest = manifest.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "not the address of a log"))?;
        Ok(Self { text: text.into(), manifest })
    }
}

impl fmt::Display for LogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for LogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogAddress({self})")
    }
}

/// A log, with the blocks that say what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    /// Follows from the manifest.
    pub(crate) address: LogAddress,
    /// The name that the address was computed from.
    pub(crate) name: String,
    /// The ids of the identities that may write, or `*`.
    pub(crate) write: Vec<String>,
    /// Name, kind, and where the access controller is.
    pub(crate) manifest: Block,
    /// The access controller: who may write.
    pub(crate) access: Block,
}

/// Defines the log of this name that these may write to, in this order.
pub(crate) fn define(name: &str, write: &[&str]) -> Definition {
    let text = |text: &str| Value::String(text.to_owned());
    let who = Value::List(write.iter().map(|id| text(id)).collect());
    let access = block(&[("type", &text(IPFS)), ("write", &who)]);
    let controller = Value::String(format!("{ACCESS}{}", link::to_text(&access.cid)));
    let manifest = block(&[("name", &text(name)), ("type", &text(EVENTS)), ("accessController", &controller)]);
    Definition {
        address: LogAddress::of(&manifest.cid),
        name: name.to_owned(),
        write: write.iter().map(|id| (*id).to_owned()).collect(),
        manifest,
        access,
    }
}

/// Defines the log of this name that anybody may write to.
pub(super) fn define_open(name: &str) -> Definition {
    define(name, &[ANYBODY])
}

/// Whether an identity of this id may write where these may.
pub(super) fn may_write(write: &[String], id: &str) -> bool {
    write.iter().any(|writer| writer == id || writer == ANYBODY)
}

/// Reads the two blocks of a log.
///
/// # Errors
/// `InvalidEnvelope` where they are none, do not belong together, or are of a kind that we do not have.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_definition(manifest: bytes::Bytes, access: bytes::Bytes) -> Result<Definition> {
    let malformed = |message| Error::new(ErrorKind::InvalidEnvelope, message);
    let (manifest, access) = (Block::of(manifest), Block::of(access));
    let of_log = cbor::decode(&manifest.bytes)?;
    if text_of(&of_log, "type") != Some(EVENTS) {
        return Err(malformed("a log of another kind"));
    }
    let name = text_of(&of_log, "name").ok_or_else(|| malformed("a log without a name"))?;
    let controller = text_of(&of_log, "accessController").and_then(|path| path.strip_prefix(ACCESS));
    if controller.and_then(link::parse) != Some(access.cid) {
        return Err(malformed("not the access controller of this log"));
    }
    let of_access = cbor::decode(&access.bytes)?;
    let Ok(Some(Value::List(who))) = of_access.get("write") else {
        return Err(malformed("an access controller without a list"));
    };
    let write: Option<_> = who.iter().map(|id| cbor::as_text(id).map(str::to_owned)).collect();
    Ok(Definition {
        address: LogAddress::of(&manifest.cid),
        name: name.to_owned(),
        write: write.ok_or_else(|| malformed("an id that is no text"))?,
        manifest,
        access,
    })
}

#[cfg(any(test, feature = "fuzzing"))]
fn text_of<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    match value {
        Value::Map(map) => map.get(key).and_then(cbor::as_text),
        _ => None,
    }
}

fn block(members: &[(&str, &Value)]) -> Block {
    let mut bytes = Vec::new();
    cbor::write_members(&mut bytes, members, 0).expect("text and lists of text are dag-cbor");
    Block::of(bytes.into())
}
