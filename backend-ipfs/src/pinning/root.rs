//! The root of a month: what a service is asked to pin.
//!
//! A service pins a DAG from one CID on. A log is none: its heads reach the entries, but neither what only waits for its
//! ancestors, nor the writers' identities, whose links are text. So there is a root above all blocks of the log: dag-cbor
//! `{v: 1, log: address, links: [CIDs sorted by bytes]}`. Where there are more links than one node takes, there is a tree
//! above such nodes, of `{v: 1, log: address, nodes: [CIDs sorted by bytes]}`. So a node says by itself what it leads to,
//! and a missing one is never taken for a block of the log.
//!
//! The same blocks have the same root, whoever builds it: two nodes that keep a mailbox ask for the same pin.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use talkbox_core::{Error, ErrorKind, Result};

use crate::orbitdb::{Block, Cid};

/// Most links of one node: 41 bytes each, so a node is at most 170 KiB, far below the 1 MiB that peers hand out at once.
pub(crate) const MAX_LINKS: usize = 4096;
/// Most levels: three hold more links than any log may have blocks.
const MAX_DEPTH: usize = 3;
/// Bytes of a node beside its links and the log's address.
#[cfg(any(test, feature = "fuzzing"))]
const OVERHEAD: usize = 64;
/// Bytes of a link to a block of this network: tag, head, and 37 bytes.
#[cfg(any(test, feature = "fuzzing"))]
const LINK: usize = 41;
/// The version of this form.
const VERSION: u64 = 1;

/// The nodes above the blocks of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    /// What is pinned.
    pub(crate) cid: Cid,
    /// The nodes, with the root as the last one.
    pub(crate) nodes: Vec<Block>,
    /// How many blocks there are below them.
    pub(crate) links: usize,
}

/// One node, in the order in which dag-cbor writes its members: by length, then by bytes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    v: u64,
    log: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    links: Option<Vec<Cid>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<Cid>>,
}

/// What a node leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Below {
    /// Blocks of the log.
    Links(Vec<Cid>),
    /// Further nodes.
    Nodes(Vec<Cid>),
}

impl Root {
    /// Builds the root of a log over these blocks, in any order; one that is named twice is one.
    ///
    /// # Errors
    /// `TooLarge` for more blocks than a log may have; `Unexpected` where encoding fails.
    pub(crate) fn build(log: &str, blocks: impl IntoIterator<Item = Cid>) -> Result<Self> {
        let mut level = sorted(blocks);
        let links = level.len();
        let mut nodes = Vec::new();
        let mut kind: fn(Vec<Cid>) -> Below = Below::Links;
        for _ in 0..MAX_DEPTH {
            // No block at all is a root without links.
            let parts = if level.is_empty() { vec![&level[..]] } else { level.chunks(MAX_LINKS).collect() };
            let above = parts.into_iter().map(|part| encode(log, kind(part.to_vec()))).collect::<Result<Vec<_>>>()?;
            nodes.extend_from_slice(&above);
            if let [root] = &above[..] {
                return Ok(Self { cid: root.cid, nodes, links });
            }
            level = sorted(above.into_iter().map(|node| node.cid));
            kind = Below::Nodes;
        }
        Err(Error::new(ErrorKind::TooLarge, "the log has more blocks than a root can name").with("blocks", links))
    }
}

/// All blocks that a root of this log stands above, found again by walking: the proof that what a service holds under the
/// root is the log.
///
/// # Errors
/// `VerificationFailed` where a node is missing, is not the one that its CID names, or is not of the form; `TooLarge` for
/// more than `most` blocks.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn walk(
    root: &Cid,
    log: &str,
    most: usize,
    block: impl Fn(&Cid) -> Option<bytes::Bytes>,
) -> Result<Vec<Cid>> {
    let wrong = |why: &'static str, cid: &Cid| Error::new(ErrorKind::VerificationFailed, why).with("cid", cid);
    let too_many = || Error::new(ErrorKind::TooLarge, "the root names more blocks than a log may have");
    let mut found = Vec::new();
    let mut level = vec![*root];
    for _ in 0..MAX_DEPTH {
        let mut below = Vec::new();
        for cid in &level {
            let bytes = block(cid).ok_or_else(|| wrong("a node of the root is missing", cid))?;
            if crate::orbitdb::cid_of(&bytes) != *cid {
                return Err(wrong("a node of the root is another one than its CID names", cid));
            }
            match decode(&bytes, log).ok_or_else(|| wrong("a node of the root is not of the form", cid))? {
                Below::Links(links) => found.extend(links),
                Below::Nodes(nodes) => below.extend(nodes),
            }
            // Whoever made the tree may have put a node into it many times.
            if found.len() > most || below.len() > most {
                return Err(too_many());
            }
        }
        if below.is_empty() {
            return Ok(found);
        }
        level = below;
    }
    Err(too_many())
}

/// What a node of this log leads to, if these bytes are one, to the byte.
#[cfg(any(test, feature = "fuzzing"))]
fn decode(bytes: &[u8], log: &str) -> Option<Below> {
    if bytes.len() > OVERHEAD + log.len() + MAX_LINKS * LINK {
        return None;
    }
    let node: Node = serde_ipld_dagcbor::from_slice(bytes).ok()?;
    let is_exact = node.v == VERSION && node.log == log && serde_ipld_dagcbor::to_vec(&node).ok()? == bytes;
    let below = match (node.links, node.nodes) {
        (Some(links), None) => Below::Links(links),
        (None, Some(nodes)) => Below::Nodes(nodes),
        _ => return None,
    };
    let (Below::Links(cids) | Below::Nodes(cids)) = &below;
    let is_sorted = cids.windows(2).all(|pair| pair[0].to_bytes() < pair[1].to_bytes());
    (is_exact && is_sorted && cids.len() <= MAX_LINKS).then_some(below)
}

fn encode(log: &str, below: Below) -> Result<Block> {
    let (links, nodes) = match below {
        Below::Links(links) => (Some(links), None),
        Below::Nodes(nodes) => (None, Some(nodes)),
    };
    let node = Node { v: VERSION, log: log.to_owned(), links, nodes };
    let bytes = serde_ipld_dagcbor::to_vec(&node)
        .map_err(|error| Error::new(ErrorKind::Unexpected, "the root cannot be encoded").source(error.to_string()))?;
    Ok(Block::of(bytes.into()))
}

/// CIDs by their bytes, each once.
fn sorted(cids: impl IntoIterator<Item = Cid>) -> Vec<Cid> {
    // A CID's own order is that of its parts, which is another one.
    let keyed: BTreeSet<Vec<u8>> = cids.into_iter().map(|cid| cid.to_bytes()).collect();
    keyed.into_iter().filter_map(|bytes| Cid::try_from(bytes).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::orbitdb::cid_of;

    const LOG: &str = "/orbitdb/zdpuAtest";

    fn block(number: u32) -> Cid {
        cid_of(&number.to_be_bytes())
    }

    fn walked(root: &Root, most: usize) -> Result<Vec<Cid>> {
        let nodes: HashMap<_, _> = root.nodes.iter().map(|node| (node.cid, node.bytes.clone())).collect();
        walk(&root.cid, LOG, most, |cid| nodes.get(cid).cloned())
    }

    #[test]
    fn the_bytes_of_a_small_root() {
        let root = Root::build(LOG, [block(1), block(0)]).expect("built");
        let [Block { cid, bytes }] = &root.nodes[..] else { panic!("one node") };
        let mut links = [block(0).to_bytes(), block(1).to_bytes()];
        links.sort();
        // {"v": 1, "log": LOG, "links": [42(h'00' ‖ CID), …]}, keys by length and then by bytes.
        let mut expected = vec![0xa3, 0x61, b'v', 0x01, 0x63, b'l', b'o', b'g', 0x72];
        expected.extend_from_slice(LOG.as_bytes());
        expected.extend_from_slice(&[0x65, b'l', b'i', b'n', b'k', b's', 0x82]);
        for link in &links {
            expected.extend_from_slice(&[0xd8, 0x2a, 0x58, 0x25, 0x00]);
            expected.extend_from_slice(link);
        }
        assert_eq!(&bytes[..], expected);
        assert_eq!((root.cid, root.links), (*cid, 2));
        assert_eq!(cid.to_string(), "bafyreiga3rfb5dibqdgpkggu7yyejfltkiyk2rz2nss6ed3fki3j3ksegq");
    }

    #[test]
    fn many_blocks_make_a_tree() {
        let blocks: Vec<_> = (0..10_000).map(block).collect();
        let root = Root::build(LOG, blocks.iter().copied()).expect("built");
        assert_eq!((root.links, root.nodes.len()), (10_000, 4));
        assert!(root.nodes.iter().all(|node| node.bytes.len() <= OVERHEAD + LOG.len() + MAX_LINKS * LINK));
        assert_eq!(root.nodes.last().map(|node| node.cid), Some(root.cid));
        let found: BTreeSet<_> = walked(&root, 10_000).expect("whole").into_iter().collect();
        assert_eq!(found, blocks.iter().copied().collect());
        assert_eq!(walked(&root, 9_999).expect_err("too many").kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn a_full_node_is_one_and_one_more_link_makes_three() {
        let nodes = |count: usize| Root::build(LOG, (0..count as u32).map(block)).expect("built").nodes.len();
        assert_eq!((nodes(0), nodes(1), nodes(MAX_LINKS), nodes(MAX_LINKS + 1)), (1, 1, 1, 3));
    }

    #[test]
    fn what_is_missing_or_another_is_noticed() {
        let root = Root::build(LOG, (0..5_000).map(block)).expect("built");
        let nodes: HashMap<_, _> = root.nodes.iter().map(|node| (node.cid, node.bytes.clone())).collect();
        let kind = |found: Result<Vec<Cid>>| found.expect_err("damaged").kind();
        for Block { cid: damaged, .. } in &root.nodes {
            let without = walk(&root.cid, LOG, 5_000, |cid| nodes.get(cid).filter(|_| cid != damaged).cloned());
            assert_eq!(kind(without), ErrorKind::VerificationFailed);
            let other = bytes::Bytes::from_static(b"\xa0");
            let swapped =
                walk(
                    &root.cid,
                    LOG,
                    5_000,
                    |cid| {
                        if cid == damaged { Some(other.clone()) } else { nodes.get(cid).cloned() }
                    },
                );
            assert_eq!(kind(swapped), ErrorKind::VerificationFailed);
        }
        let elsewhere = walk(&root.cid, "/orbitdb/zdpuAother", 5_000, |cid| nodes.get(cid).cloned());
        assert_eq!(kind(elsewhere), ErrorKind::VerificationFailed);
    }

    #[test]
    fn a_tower_and_a_broom_end() {
        let leaf = encode(LOG, Below::Links(vec![block(0)])).expect("encoded");
        let mut nodes = HashMap::from([(leaf.cid, leaf.bytes)]);
        let mut top = leaf.cid;
        for _ in 0..MAX_DEPTH {
            let above = encode(LOG, Below::Nodes(vec![top])).expect("encoded");
            nodes.insert(above.cid, above.bytes);
            top = above.cid;
        }
        let walked = |root: &Cid, most| walk(root, LOG, most, |cid| nodes.get(cid).cloned());
        assert_eq!(walked(&top, 1_000).expect_err("too deep").kind(), ErrorKind::TooLarge);
        assert_eq!(walked(&leaf.cid, 0).expect_err("too many").kind(), ErrorKind::TooLarge);
        assert_eq!(walked(&leaf.cid, 1).expect("one"), [block(0)]);
    }

    #[test]
    fn only_the_form_itself_is_read() {
        let bytes = |below| encode(LOG, below).expect("encoded").bytes;
        let good = bytes(Below::Links(vec![block(0)]));
        assert_eq!(decode(&good, LOG), Some(Below::Links(vec![block(0)])));
        for bad in [&good[..good.len() - 1], b"", b"\xff", b"\xa0", &[&good[..], b"\x00"].concat()] {
            assert!(decode(bad, LOG).is_none());
        }
        let mut links = sorted([block(0), block(1)]);
        links.reverse();
        assert!(decode(&bytes(Below::Links(links)), LOG).is_none());
        assert!(decode(&bytes(Below::Links(vec![block(0), block(0)])), LOG).is_none());
        let both = Node { v: VERSION, log: LOG.to_owned(), links: Some(vec![]), nodes: Some(vec![]) };
        assert!(decode(&serde_ipld_dagcbor::to_vec(&both).expect("encoded"), LOG).is_none());
        let newer = Node { v: 2, log: LOG.to_owned(), links: Some(vec![]), nodes: None };
        assert!(decode(&serde_ipld_dagcbor::to_vec(&newer).expect("encoded"), LOG).is_none());
    }

    proptest! {
        #[test]
        fn every_block_is_found_again_in_any_order(mut numbers in prop::collection::vec(0_u32..6_000, 0..9_000)) {
            let root = Root::build(LOG, numbers.iter().map(|number| block(*number))).expect("built");
            numbers.reverse();
            let again = Root::build(LOG, numbers.iter().map(|number| block(*number))).expect("built");
            prop_assert_eq!(&again, &root);
            let found = walked(&root, 6_000).expect("whole");
            let expected: BTreeSet<_> = numbers.iter().map(|number| block(*number)).collect();
            prop_assert_eq!(found.len(), root.links);
            prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }
}
