//! The decoders, each as a function that takes any bytes, and what has to hold whatever they are: nothing panics, what
//! was read is within its bounds, and it is written as it was read. For fuzzers (`backend-ipfs/fuzz/`), and for the tests
//! below, which change real messages.
//!
//! Not a part of the interface: behind the feature `fuzzing`, and without any promise.

#[cfg(test)]
mod tests;

use crate::{bitswap, node, orbitdb, pinning, sync};

pub use crate::{
    bitswap::fuzzing::{message, stream},
    node::fuzzing::{heads, peer_address},
    orbitdb::fuzzing::{address, cbor, definition, entry, identity, items, link, month},
    pinning::fuzzing::{pin_answer, pin_root},
    sync::fuzzing::{archive, greeting, publication, receipt, request, wanted},
};

/// A decoder that can be fed with any bytes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Target {
    /// Its name: that of the function here, and of the fuzz target.
    pub name: &'static str,
    /// Feeds it. Whether it took the bytes for what it reads.
    pub feed: fn(&[u8]) -> bool,
    /// Bytes that it takes.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 20] = [
    Target { name: "cbor", feed: cbor, seeds: orbitdb::fuzzing::blocks },
    Target { name: "items", feed: items, seeds: orbitdb::fuzzing::rows },
    Target { name: "entry", feed: entry, seeds: orbitdb::fuzzing::entries },
    Target { name: "identity", feed: identity, seeds: orbitdb::fuzzing::identities },
    Target { name: "definition", feed: definition, seeds: orbitdb::fuzzing::definitions },
    Target { name: "link", feed: link, seeds: orbitdb::fuzzing::links },
    Target { name: "address", feed: address, seeds: orbitdb::fuzzing::addresses },
    Target { name: "month", feed: month, seeds: orbitdb::fuzzing::months },
    Target { name: "peer_address", feed: peer_address, seeds: node::fuzzing::addresses },
    Target { name: "heads", feed: heads, seeds: orbitdb::fuzzing::rows },
    Target { name: "message", feed: message, seeds: bitswap::fuzzing::messages },
    Target { name: "stream", feed: stream, seeds: bitswap::fuzzing::streams },
    Target { name: "request", feed: request, seeds: sync::fuzzing::requests },
    Target { name: "greeting", feed: greeting, seeds: sync::fuzzing::greetings },
    Target { name: "wanted", feed: wanted, seeds: sync::fuzzing::wants },
    Target { name: "archive", feed: archive, seeds: sync::fuzzing::archives },
    Target { name: "publication", feed: publication, seeds: sync::fuzzing::publications },
    Target { name: "receipt", feed: receipt, seeds: sync::fuzzing::receipts },
    Target { name: "pin_answer", feed: pin_answer, seeds: pinning::fuzzing::answers },
    Target { name: "pin_root", feed: pin_root, seeds: pinning::fuzzing::roots },
];
