use cid::Version;
use proptest::{collection::vec, prelude::*};
use prost::Message as _;

use super::*;

/// The same messages, derived: what the encoder and decoder above are held against.
mod derived {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Message {
        #[prost(message, optional, tag = "1")]
        pub(super) wantlist: Option<Wantlist>,
        #[prost(bytes = "vec", repeated, tag = "2")]
        pub(super) blocks: Vec<Vec<u8>>,
        #[prost(message, repeated, tag = "3")]
        pub(super) payload: Vec<Block>,
        #[prost(message, repeated, tag = "4")]
        pub(super) block_presences: Vec<BlockPresence>,
        #[prost(int32, tag = "5")]
        pub(super) pending_bytes: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Wantlist {
        #[prost(message, repeated, tag = "1")]
        pub(super) entries: Vec<Entry>,
        #[prost(bool, tag = "2")]
        pub(super) full: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Entry {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) block: Vec<u8>,
        #[prost(int32, tag = "2")]
        pub(super) priority: i32,
        #[prost(bool, tag = "3")]
        pub(super) cancel: bool,
        #[prost(int32, tag = "4")]
        pub(super) want_type: i32,
        #[prost(bool, tag = "5")]
        pub(super) send_dont_have: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Block {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) prefix: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) data: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct BlockPresence {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) cid: Vec<u8>,
        #[prost(int32, tag = "2")]
        pub(super) kind: i32,
    }
}

fn cid_of(version: u64, codec: u64, data: &[u8]) -> Cid {
    let hash = Multihash::wrap(SHA2_256, &Sha256::digest(data)).unwrap();
    if version == 0 { Cid::new_v0(hash).unwrap() } else { Cid::new_v1(codec, hash) }
}

fn body(frame: &[u8]) -> &[u8] {
    let mut fields = Fields(frame);
    let length = fields.varint().unwrap();
    assert_eq!(length, fields.0.len() as u64);
    fields.0
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit.try_into().unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Written down by hand, from the specification: a want of the block "hi", its cancellation, the block, and a block
/// that is not there.
#[test]
fn the_bytes_are_those_of_the_specification() {
    let digest = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4";
    let bytes = hex(&format!(
        "ab01\
         0a 5a\
           0a 2c  0a 24 01551220{digest}  10 01  20 01  28 01\
           0a 28  0a 24 01551220{digest}  18 01\
           10 01\
         1a 0a  0a 04 01551220  12 02 6869\
         22 28  0a 24 01551220{digest}  10 01\
         22 26  0a 24 01551220{digest}\
         28 07"
    ));
    let mut bytes = bytes;
    bytes[0] = 0x80 | u8::try_from((bytes.len() - 2) & 0x7f).unwrap();
    let cid = cid_of(1, 0x55, b"hi");
    let message = Message {
        entries: vec![
            Entry { cid, wish: Wish::Have, priority: 1, tell_absent: true },
            Entry { cid, wish: Wish::Cancel, priority: 0, tell_absent: false },
        ],
        full: true,
        blocks: vec![(cid, Bytes::from_static(b"hi"))],
        presences: vec![(cid, false), (cid, true)],
        pending: 7,
    };
    assert_eq!(message.frame(), bytes);
    assert_eq!(Message::decode(body(&bytes)), Ok(message));
}

#[test]
fn a_block_is_known_by_its_bytes_alone() {
    let block = |prefix: &[u8], data: &[u8]| derived::Block { prefix: prefix.to_vec(), data: data.to_vec() };
    let message = derived::Message {
        payload: vec![
            block(&[1, 0x71, 0x12, 32], b"a"),
            block(&[0, 0x70, 0x12, 32], b"b"),
            block(&[1, 0x71, 0x13, 64], b"another hash"),
            block(&[1, 0x71, 0x12, 20], b"a hash cut short"),
            block(&[0, 0x71, 0x12, 32], b"another codec in version 0"),
            block(&[2, 0x71, 0x12, 32], b"a later version"),
            block(&[1, 0x71], b"half a prefix"),
            block(&[1, 0x71, 0x12, 32], &vec![0; BLOCK_BYTES + 1]),
            block(&[1, 0x55, 0x12, 32], b"c"),
        ],
        ..Default::default()
    };
    let blocks = Message::decode(&message.encode_to_vec()).unwrap().blocks;
    let cids: Vec<Cid> = blocks.iter().map(|(cid, _)| *cid).collect();
    assert_eq!(cids, [cid_of(1, 0x71, b"a"), cid_of(0, 0x70, b"b"), cid_of(1, 0x55, b"c")]);
    assert_eq!(cids[1].version(), Version::V0);
}

#[test]
fn an_unreadable_cid_costs_its_entry_alone() {
    let cid = cid_of(1, 0x71, b"x");
    let entry = |block: Vec<u8>| derived::Entry { block, ..Default::default() };
    let entries = vec![entry(vec![]), entry(vec![9; 40]), entry(cid.to_bytes()), entry(vec![1, 0x71, 0x12, 33, 0])];
    let message = derived::Message { wantlist: Some(derived::Wantlist { entries, full: false }), ..Default::default() };
    let entries = Message::decode(&message.encode_to_vec()).unwrap().entries;
    assert_eq!(entries, [Entry { cid, wish: Wish::Block, priority: 0, tell_absent: false }]);
}

#[test]
fn the_items_of_a_message_are_bounded() {
    let mut cid = cid_of(1, 0x71, b"x").to_bytes();
    cid.truncate(36);
    let mut presence = vec![0x0a, 36];
    presence.extend(cid);
    let mut bytes = Vec::new();
    for _ in 0..100_000 {
        put_bytes(&mut bytes, 4, &presence);
        put_bytes(&mut bytes, 3, &[0x0a, 4, 1, 0x71, 0x12, 32]);
    }
    let message = Message::decode(&bytes).unwrap();
    assert_eq!((message.presences.len(), message.blocks.len()), (ITEMS, ITEMS));
}

fn any_message() -> impl Strategy<Value = Message> {
    let cid = || {
        (
            prop_oneof![Just(0_u64), Just(1)],
            prop_oneof![Just(0x71_u64), Just(0x55), Just(0x70)],
            vec(any::<u8>(), 0..40),
        )
            .prop_map(|(version, codec, data)| (cid_of(version, codec, &data), Bytes::from(data)))
    };
    let wish = prop_oneof![Just(Wish::Block), Just(Wish::Have), Just(Wish::Cancel)];
    let entry = (cid(), wish, any::<i32>(), any::<bool>()).prop_map(|((cid, _), wish, priority, tell_absent)| Entry {
        cid,
        wish,
        priority,
        tell_absent,
    });
    let presence = (cid(), any::<bool>()).prop_map(|((cid, _), here)| (cid, here));
    (vec(entry, 0..8), any::<bool>(), vec(cid(), 0..8), vec(presence, 0..8), any::<i32>())
        .prop_map(|(entries, full, blocks, presences, pending)| Message { entries, full, blocks, presences, pending })
}

fn as_derived(message: &Message) -> derived::Message {
    let entry = |entry: &Entry| derived::Entry {
        block: entry.cid.to_bytes(),
        priority: entry.priority,
        cancel: entry.wish == Wish::Cancel,
        want_type: i32::from(entry.wish == Wish::Have),
        send_dont_have: entry.tell_absent,
    };
    let entries: Vec<_> = message.entries.iter().map(entry).collect();
    derived::Message {
        wantlist: (message.full || !entries.is_empty()).then_some(derived::Wantlist { entries, full: message.full }),
        blocks: vec![],
        payload: message
            .blocks
            .iter()
            .map(|(cid, data)| derived::Block { prefix: prefix(cid), data: data.to_vec() })
            .collect(),
        block_presences: message
            .presences
            .iter()
            .map(|(cid, here)| derived::BlockPresence { cid: cid.to_bytes(), kind: i32::from(!here) })
            .collect(),
        pending_bytes: message.pending,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_what_a_derived_encoder_writes_and_is_read_again(message in any_message()) {
        let derived = as_derived(&message).encode_to_vec();
        let frame = message.frame();
        prop_assert_eq!(body(&frame), &derived[..]);
        prop_assert_eq!(Message::decode(&derived), Ok(message));
    }

    #[test]
    fn whatever_is_read_does_no_harm(bytes in vec(any::<u8>(), 0..600)) {
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn a_message_with_bytes_changed_does_no_harm(message in any_message(), at in any::<usize>(), byte in any::<u8>()) {
        let frame = message.frame();
        let mut bytes = body(&frame).to_vec();
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(read) = Message::decode(&bytes) {
                for (cid, data) in &read.blocks {
                    prop_assert_eq!(cid.hash().digest(), &Sha256::digest(data)[..]);
                }
            }
            let _ = Message::decode(&bytes[..at]);
        }
    }
}
