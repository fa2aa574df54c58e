//! Entries as somebody writes them who means harm: signed by the rules where that is wanted, and odd in whatever else.

use std::collections::BTreeMap;

use cid::{Cid, multibase::Base, multihash::Multihash};
use ipld_core::ipld::Ipld;
use secp256k1::{Message, SECP256K1, SecretKey, ecdsa::Signature};
use sha2::{Digest as _, Sha256};
use talkbox_core::{Envelope, hex};

/// What is signed of an entry.
const SIGNED: [&str; 6] = ["v", "id", "next", "refs", "clock", "payload"];
/// The codec dag-cbor, and SHA-256.
const DAG_CBOR: u64 = 0x71;
const SHA2_256: u64 = 0x12;

type Map = BTreeMap<String, Ipld>;

/// A block, as the peers take it.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The link to it, in base58btc.
    pub(crate) link: String,
    /// Its bytes, in digits.
    pub(crate) hex: String,
}

/// Something to be sent.
pub(crate) struct Odd {
    pub(crate) what: &'static str,
    /// Other blocks that it leads to.
    pub(crate) beside: Vec<Block>,
    pub(crate) entry: Block,
}

/// Somebody who writes.
pub(crate) struct Forger {
    key: SecretKey,
    public: String,
    pub(crate) identity: Block,
}

impl Block {
    fn of(bytes: &[u8]) -> Self {
        let hash = Multihash::wrap(SHA2_256, &Sha256::digest(bytes)).expect("32 bytes");
        let link = Cid::new_v1(DAG_CBOR, hash).to_string_of_base(Base::Base58Btc).expect("of version 1");
        Self { link, hex: hex::encode(bytes) }
    }

    fn map(map: &Map) -> Self {
        Self::of(&serde_ipld_dagcbor::to_vec(map).expect("dag-cbor"))
    }

    /// The same with its keys in the opposite order.
    fn backwards(map: &Map) -> Self {
        let encode = |value: &Ipld| serde_ipld_dagcbor::to_vec(value).expect("dag-cbor");
        let mut bytes = vec![0xa0 + u8::try_from(map.len()).expect("few")];
        for (key, value) in map.iter().rev() {
            bytes.extend(encode(&text(key)));
            bytes.extend(encode(value));
        }
        Self::of(&bytes)
    }
}

fn text(text: &str) -> Ipld {
    Ipld::String(text.to_owned())
}

fn texts(links: &[&str]) -> Ipld {
    Ipld::List(links.iter().map(|link| text(link)).collect())
}

fn map<const N: usize>(members: [(&str, Ipld); N]) -> Map {
    members.map(|(name, value)| (name.to_owned(), value)).into()
}

fn sign(key: &SecretKey, bytes: &[u8]) -> Signature {
    SECP256K1.sign_ecdsa(&Message::from_digest(Sha256::digest(bytes).into()), key)
}

fn digits(signature: &Signature) -> String {
    hex::encode(&signature.serialize_der())
}

impl Forger {
    pub(crate) fn new() -> Self {
        let key = talkbox_core::SecretKey::generate().expect("randomness");
        let key = SecretKey::from_slice(&key.to_bytes()[..]).expect("a key");
        let public = hex::encode(&key.public_key(SECP256K1).serialize());
        let identity = Block::map(&Self::identity(&key, &public));
        Self { key, public, identity }
    }

    fn identity(key: &SecretKey, public: &str) -> Map {
        let id = digits(&sign(key, public.as_bytes()));
        let by_root = digits(&sign(key, format!("{public}{id}").as_bytes()));
        map([
            ("id", text(public)),
            ("type", text("publickey")),
            ("publicKey", text(public)),
            ("signatures", Ipld::Map(map([("id", text(&id)), ("publicKey", text(&by_root))]))),
        ])
    }

    /// An entry in which something was changed before it was signed.
    fn members(&self, log: &str, change: impl FnOnce(&mut Map)) -> Map {
        let mut entry = map([
            ("v", Ipld::Integer(2)),
            ("id", text(log)),
            ("next", texts(&[])),
            ("refs", texts(&[])),
            ("clock", Ipld::Map(map([("id", text(&self.public)), ("time", Ipld::Integer(1))]))),
            ("payload", payload(text("junk"))),
        ]);
        change(&mut entry);
        self.sign(&mut entry);
        entry
    }

    fn sign(&self, entry: &mut Map) {
        let signed: Map = SIGNED.iter().map(|name| ((*name).to_owned(), entry[*name].clone())).collect();
        let signature = sign(&self.key, &serde_ipld_dagcbor::to_vec(&signed).expect("dag-cbor"));
        entry.extend(map([
            ("key", text(&self.public)),
            ("sig", text(&digits(&signature))),
            ("identity", text(&self.identity.link)),
        ]));
    }

    /// A valid entry with a value that is its own, on top of nothing.
    pub(crate) fn junk(&self, log: &str, number: usize) -> Block {
        Block::map(
            &self.members(log, |entry| {
                drop(entry.insert("payload".to_owned(), payload(text(&format!("junk {number}")))))
            }),
        )
    }

    /// A valid entry that brings a letter, on top of others.
    pub(crate) fn letter(&self, log: &str, letter: &Envelope, next: &[String]) -> Block {
        let event: Ipld = serde_json::from_str(letter.json()).expect("JSON");
        Block::map(&self.members(log, |entry| {
            entry.insert("payload".to_owned(), payload(event));
            entry.insert("next".to_owned(), texts(&next.iter().map(String::as_str).collect::<Vec<_>>()));
        }))
    }

    /// Entries that JavaScript peers refuse, the like of those in `negative.json`.
    pub(crate) fn refused(&self, log: &str) -> Vec<Odd> {
        let other = Self::new();
        let valid = || self.members(log, |_| {});
        let after = |change: &dyn Fn(&mut Map)| {
            let mut entry = valid();
            change(&mut entry);
            entry
        };
        let with = |what, beside, entry: Map| Odd { what, beside, entry: Block::map(&entry) };
        let alone = |what, entry| with(what, Vec::new(), entry);
        let set =
            |name: &'static str, value: Ipld| move |entry: &mut Map| drop(entry.insert(name.to_owned(), value.clone()));
        let signature = match &valid()["sig"] {
            Ipld::String(signature) => signature.clone(),
            _ => unreachable!("digits"),
        };
        let identity = Self::identity(&self.key, &self.public);
        let identity_with = |what, change: &dyn Fn(&mut Map)| {
            let mut identity = identity.clone();
            change(&mut identity);
            let block = Block::map(&identity);
            with(what, vec![block.clone()], after(&set("identity", text(&block.link))))
        };
        let wrong = |name: &'static str| {
            move |identity: &mut Map| {
                if let Some(Ipld::Map(signatures)) = identity.get_mut("signatures") {
                    signatures.insert(
                        name.to_owned(),
                        text(&digits(&sign(&SecretKey::from_slice(&[7; 32]).expect("a key"), b"other"))),
                    );
                }
            }
        };
        let nowhere = Block::of(log.as_bytes());
        let bad = Block::map(&after(&set("payload", payload(text("changed")))));
        let leading = |what, name: &'static str, link: &Block, beside| {
            let link = text(&link.link);
            with(what, beside, self.members(log, set(name, Ipld::List(vec![link]))))
        };
        vec![
            alone("a payload changed after it was signed", after(&set("payload", payload(text("changed"))))),
            alone(
                "a clock changed after it was signed",
                after(&set("clock", Ipld::Map(map([("id", text(&self.public)), ("time", Ipld::Integer(9))])))),
            ),
            alone("a signature of another", after(&set("sig", other.members(log, |_| {})["sig"].clone()))),
            alone("a key of another", after(&set("key", text(&other.public)))),
            alone("another log", self.members("/orbitdb/zdpuAuK3BHpS7NvMBivynypqciYCuy2UW77XYBPUYRnLjnw13", |_| {})),
            alone("a signature with a high S", after(&set("sig", text(&high(&signature))))),
            alone("a signature in capitals", after(&set("sig", text(&signature.to_uppercase())))),
            alone("an identity that is nowhere", after(&set("identity", text(&nowhere.link)))),
            with("an identity that is none", vec![bad.clone()], after(&set("identity", text(&bad.link)))),
            identity_with("an identity with a wrong signature of its id", &wrong("id")),
            identity_with("an identity with a wrong signature of its key", &wrong("publicKey")),
            identity_with("an identity of an unknown kind", &set("type", text("other"))),
            leading("on top of what is nowhere", "next", &nowhere, Vec::new()),
            leading("with a shortcut to what is nowhere", "refs", &nowhere, Vec::new()),
            leading("on top of what is badly signed", "next", &bad, vec![bad.clone()]),
            alone("without a clock", {
                let mut entry = valid();
                entry.remove("clock");
                entry
            }),
            Odd { what: "not an entry", beside: Vec::new(), entry: Block::of(b"\xa1\x61a\x01") },
            Odd { what: "not CBOR", beside: Vec::new(), entry: Block::of(&[0xff; 300]) },
            Odd { what: "deep", beside: Vec::new(), entry: Block::of(&[0x81; 60_000]) },
        ]
    }

    /// Entries that JavaScript peers take, and would better not.
    pub(crate) fn taken(&self, log: &str) -> Vec<Odd> {
        let other = Self::new();
        let set =
            |name: &'static str, value: Ipld| move |entry: &mut Map| drop(entry.insert(name.to_owned(), value.clone()));
        let odd = |what, value: Map| Odd { what, beside: Vec::new(), entry: Block::map(&value) };
        let time = |what, time: Ipld| {
            odd(what, self.members(log, set("clock", Ipld::Map(map([("id", text(&self.public)), ("time", time)])))))
        };
        let paid = |what, value: Ipld| odd(what, self.members(log, set("payload", value)));
        let mut more = self.members(log, |_| {});
        more.insert("more".to_owned(), text("unsigned"));
        let mut borrowed = other.members(log, |_| {});
        borrowed.insert("identity".to_owned(), text(&self.identity.link));
        vec![
            odd("more members than are signed", more),
            odd("another version", self.members(log, set("v", Ipld::Integer(1)))),
            odd("a version that is text", self.members(log, set("v", text("2")))),
            odd("an identity of another than the signer", borrowed),
            odd(
                "a clock of another",
                self.members(log, set("clock", Ipld::Map(map([("id", text("somebody")), ("time", Ipld::Integer(3))])))),
            ),
            time("the last time", Ipld::Integer((1 << 53) - 1)),
            time("a time that is far from a number of entries", Ipld::Float(1e300)),
            time("half a time", Ipld::Float(1.5)),
            time("a time before the first", Ipld::Integer(-5)),
            time("a time that is text", text("7")),
            paid("text for a payload", text("payload")),
            paid("a list for a payload", Ipld::List(vec![Ipld::Null, Ipld::Bytes(vec![0; 100])])),
            paid("a number for a payload", Ipld::Float(-0.5)),
            paid("a payload without a value", Ipld::Map(map([("op", text("PUT"))]))),
            paid(
                "a payload that deletes",
                Ipld::Map(map([("op", text("DEL")), ("key", text("k")), ("value", Ipld::Null)])),
            ),
        ]
    }

    /// An entry that JavaScript peers take, store under another name than it has, and then look for without end.
    pub(crate) fn not_canonical(&self, log: &str, number: usize, next: &[&str]) -> Block {
        Block::backwards(&self.members(log, |entry| {
            entry.insert("payload".to_owned(), payload(text(&format!("backwards {number}"))));
            entry.insert("next".to_owned(), texts(next));
            entry
                .insert("clock".to_owned(), Ipld::Map(map([("id", text(&self.public)), ("time", Ipld::Integer(100))])));
        }))
    }
}

fn payload(value: Ipld) -> Ipld {
    Ipld::Map(map([("op", text("ADD")), ("key", Ipld::Null), ("value", value)]))
}

/// The same signature in its other form, which the library refuses.
fn high(signature: &str) -> String {
    let mut compact = signature.parse::<Signature>().expect("a signature").serialize_compact();
    let negated = SecretKey::from_slice(&compact[32..]).expect("a number").negate();
    compact[32..].copy_from_slice(&negated.secret_bytes());
    digits(&Signature::from_compact(&compact).expect("a signature"))
}
