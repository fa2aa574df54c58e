//! OrbitDB 4.0.0 as bytes: blocks, links, addresses, identities, entries, and what is to be thought of an entry.
//!
//! Nothing here knows a network, a clock or a disk. The rules are those of the JavaScript library, `@orbitdb/core`,
//! read in its source and checked against vectors that it made. Where we cannot be exactly as it is, we refuse what it
//! takes, never the other way round: an entry that only we refuse costs us its descendants in the log, but an entry
//! that only we take would stand below what we write, and no JavaScript peer could join that any more.

pub(crate) mod address;
pub(crate) mod cbor;
mod entry;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod identity;
pub(crate) mod link;
pub(crate) mod month;
mod signature;
#[cfg(test)]
mod vectors;
pub(crate) mod verdict;

use bytes::Bytes;
use cid::multihash::Multihash;
use sha2::{Digest as _, Sha256};

pub(crate) use cid::Cid;

#[cfg(test)]
pub(crate) use self::address::Definition;
pub(crate) use self::{
    address::LogAddress,
    cbor::Value,
    entry::{Entry, MAX_TIME},
    identity::{Identity, Writer},
    month::{Month, MonthLog, open_months},
    verdict::{Why, self_valid_by, shown, value_of},
};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::{
    address::{define, read_definition},
    verdict::self_valid,
};

/// The codes of the multicodec table that we meet.
pub(crate) const DAG_CBOR: u64 = 0x71;
/// A block without structure.
pub(crate) const RAW: u64 = 0x55;
/// The format of files in IPFS.
pub(crate) const DAG_PB: u64 = 0x70;
/// The one hash that we compute.
pub(crate) const SHA2_256: u64 = 0x12;

/// Bytes and the CID that they have been found to hash to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Names the bytes.
    pub(crate) cid: Cid,
    /// What is named.
    pub(crate) bytes: Bytes,
}

impl Block {
    /// These bytes as a dag-cbor block.
    pub(crate) fn of(bytes: Bytes) -> Self {
        Self { cid: cid_of(&bytes), bytes }
    }

    /// These bytes under a CID that somebody says is theirs; `None` where it is not, or where its codec or its hash is
    /// not one that we keep.
    pub(crate) fn checked(cid: Cid, bytes: Bytes) -> Option<Self> {
        let known = matches!(cid.codec(), DAG_CBOR | RAW | DAG_PB) && cid.hash().code() == SHA2_256;
        (known && cid.hash().digest() == Sha256::digest(&bytes).as_slice()).then_some(Self { cid, bytes })
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({}, {} bytes)", self.cid, self.bytes.len())
    }
}

/// The CID of a dag-cbor block.
pub(crate) fn cid_of(bytes: &[u8]) -> Cid {
    cid_of_digest(&Sha256::digest(bytes).into())
}

/// The CID of the dag-cbor block with this SHA-256.
pub(crate) fn cid_of_digest(digest: &[u8; 32]) -> Cid {
    Cid::new_v1(DAG_CBOR, Multihash::wrap(SHA2_256, digest).expect("32 bytes fit into a multihash"))
}

/// The SHA-256 that a CID of a block carries. Other hashes, which no block here has, give what no block has.
pub(crate) fn digest_of(cid: &Cid) -> [u8; 32] {
    cid.hash().digest().try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_what_its_cid_says_or_is_none() {
        let block = Block::of(Bytes::from_static(b"\xa0"));
        assert_eq!(Block::checked(block.cid, block.bytes.clone()), Some(block.clone()));
        assert_eq!(Block::checked(block.cid, Bytes::from_static(b"\xa1")), None);
        let raw = Cid::new_v1(RAW, *block.cid.hash());
        assert_eq!(Block::checked(raw, block.bytes.clone()).map(|block| block.cid), Some(raw));
        assert_eq!(Block::checked(Cid::new_v1(0x72, *block.cid.hash()), block.bytes.clone()), None);
        let identity = Multihash::wrap(0, b"\xa0").expect("short");
        assert_eq!(Block::checked(Cid::new_v1(RAW, identity), block.bytes), None);
    }
}
