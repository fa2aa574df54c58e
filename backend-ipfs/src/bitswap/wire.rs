//! The messages of bitswap 1.2.0 in protobuf.
//!
//! They are read by hand: a derived decoder makes a struct of tens of bytes from every two bytes of a hostile message,
//! and takes all of it or nothing. Here the counts are bounded, and what makes no sense is left out alone.

use bytes::Bytes;
use cid::{Cid, multihash::Multihash};
use sha2::{Digest, Sha256};

/// The longest message that is read, as the specification has it.
pub(super) const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// The longest block that is sent or asked for: every implementation has to take blocks of this size.
pub(super) const BLOCK_BYTES: usize = 2 * 1024 * 1024;
/// How many items of each sort are read of one message; others keep 1,024 wants of a peer, and no more than that comes
/// from anybody who wants an answer.
const ITEMS: usize = 4_096;

const SHA2_256: u64 = 0x12;
const SHA2_256_BYTES: u64 = 32;
const DAG_PB: u64 = 0x70;

/// What a peer wishes about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To have it sent.
    Block,
    /// To know whether it is there.
    Have,
    /// To hear no more of it.
    Cancel,
}

/// One entry of a wantlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) cid: Cid,
    pub(super) wish: Wish,
    /// Greater ones are to be answered first.
    pub(super) priority: i32,
    /// Whether the asking side wants to be told that the block is not there.
    pub(super) tell_absent: bool,
}

/// A message. Blocks carry no hash of their own: the CID here is computed from the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) entries: Vec<Entry>,
    /// Whether the entries replace those that were sent before.
    pub(super) full: bool,
    pub(super) blocks: Vec<(Cid, Bytes)>,
    /// Blocks that are there (`true`) or not.
    pub(super) presences: Vec<(Cid, bool)>,
    /// About how many bytes the sender has still to send.
    pub(super) pending: i32,
}

/// A message that is not protobuf.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

impl Message {
    /// Reads a message without the length before it. Entries with unreadable CIDs and blocks with other hashes than
    /// SHA-256 are left out.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut message = Self::default();
        let mut fields = Fields(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(list)) => message.read_wantlist(list)?,
                (3, Value::Bytes(block)) if message.blocks.len() < ITEMS => message.blocks.extend(read_block(block)?),
                (4, Value::Bytes(presence)) if message.presences.len() < ITEMS => {
                    message.presences.extend(read_presence(presence)?);
                }
                (5, Value::Number(pending)) => message.pending = int32(pending),
                // The blocks of version 1.0.0 (2), and what later versions may add.
                _ => {}
            }
        }
        Ok(message)
    }

    fn read_wantlist(&mut self, bytes: &[u8]) -> Result<()> {
        let mut fields = Fields(bytes);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(entry)) if self.entries.len() < ITEMS => self.entries.extend(read_entry(entry)?),
                (2, Value::Number(full)) => self.full = full != 0,
                _ => {}
            }
        }
        Ok(())
    }

    /// The message as it is written to a stream, with its length before it.
    pub(super) fn frame(&self) -> Bytes {
        let mut body = Vec::new();
        if self.full || !self.entries.is_empty() {
            let mut list = Vec::new();
            for entry in &self.entries {
                put_bytes(&mut list, 1, &write_entry(entry));
            }
            put_number(&mut list, 2, u64::from(self.full));
            put_bytes(&mut body, 1, &list);
        }
        for (cid, data) in &self.blocks {
            let mut block = Vec::with_capacity(data.len() + 16);
            put_bytes(&mut block, 1, &prefix(cid));
            if !data.is_empty() {
                put_bytes(&mut block, 2, data);
            }
            put_bytes(&mut body, 3, &block);
        }
        for (cid, here) in &self.presences {
            let mut presence = Vec::new();
            put_bytes(&mut presence, 1, &cid.to_bytes());
            put_number(&mut presence, 2, u64::from(!here));
            put_bytes(&mut body, 4, &presence);
        }
        put_number(&mut body, 5, i64::from(self.pending).cast_unsigned());
        let mut frame = Vec::with_capacity(body.len() + 5);
        put_varint(&mut frame, body.len() as u64);
        frame.extend_from_slice(&body);
        frame.into()
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && !self.full && self.blocks.is_empty() && self.presences.is_empty()
    }
}

/// Whether a block with this CID can be checked here.
pub(super) fn is_checkable(cid: &Cid) -> bool {
    cid.hash().code() == SHA2_256 && u64::from(cid.hash().size()) == SHA2_256_BYTES
}

fn read_entry(bytes: &[u8]) -> Result<Option<Entry>> {
    let (mut cid, mut priority, mut cancel, mut have, mut tell_absent) = (None, 0, false, false, false);
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => cid = Cid::try_from(bytes).ok(),
            (2, Value::Number(number)) => priority = int32(number),
            (3, Value::Number(number)) => cancel = number != 0,
            (4, Value::Number(number)) => have = number == 1,
            (5, Value::Number(number)) => tell_absent = number != 0,
            _ => {}
        }
    }
    let wish = match (cancel, have) {
        (true, _) => Wish::Cancel,
        (false, true) => Wish::Have,
        (false, false) => Wish::Block,
    };
    Ok(cid.map(|cid| Entry { cid, wish, priority, tell_absent }))
}

fn write_entry(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(56);
    put_bytes(&mut bytes, 1, &entry.cid.to_bytes());
    put_number(&mut bytes, 2, i64::from(entry.priority).cast_unsigned());
    put_number(&mut bytes, 3, u64::from(entry.wish == Wish::Cancel));
    put_number(&mut bytes, 4, u64::from(entry.wish == Wish::Have));
    put_number(&mut bytes, 5, u64::from(entry.tell_absent));
    bytes
}

fn read_block(bytes: &[u8]) -> Result<Option<(Cid, Bytes)>> {
    let (mut prefix, mut data) = (&[][..], &[][..]);
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => prefix = bytes,
            (2, Value::Bytes(bytes)) => data = bytes,
            _ => {}
        }
    }
    // A copy, or one small block would hold the whole message that it came in.
    Ok(computed(prefix, data).map(|cid| (cid, Bytes::copy_from_slice(data))))
}

/// The CID of `data`, by version, codec and hash function of the prefix.
fn computed(prefix: &[u8], data: &[u8]) -> Option<Cid> {
    let mut rest = Fields(prefix);
    let mut next = || rest.varint().ok();
    let (version, codec, hash, length) = (next()?, next()?, next()?, next()?);
    if (hash, length) != (SHA2_256, SHA2_256_BYTES) || data.len() > BLOCK_BYTES {
        return None;
    }
    let hash = Multihash::wrap(SHA2_256, &Sha256::digest(data)).ok()?;
    match version {
        0 if codec == DAG_PB => Cid::new_v0(hash).ok(),
        1 => Some(Cid::new_v1(codec, hash)),
        _ => None,
    }
}

fn prefix(cid: &Cid) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8);
    for number in [u64::from(cid.version()), cid.codec(), cid.hash().code(), u64::from(cid.hash().size())] {
        put_varint(&mut bytes, number);
    }
    bytes
}

fn read_presence(bytes: &[u8]) -> Result<Option<(Cid, bool)>> {
    let (mut cid, mut here) = (None, true);
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => cid = Cid::try_from(bytes).ok(),
            (2, Value::Number(number)) => here = number == 0,
            _ => {}
        }
    }
    Ok(cid.map(|cid| (cid, here)))
}

/// The value of a field, as far as these messages use them.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a protobuf message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).map_err(|_| Malformed)?)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return Err(Malformed),
        };
        Ok(Some((key >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// An `int32` is written as the 64 bits of its value; a reader keeps the low half.
#[expect(clippy::cast_possible_truncation, reason = "protobuf has a reader keep the low half")]
fn int32(number: u64) -> i32 {
    number as i32
}

fn put_varint(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(unsigned_varint::encode::u64(number, &mut unsigned_varint::encode::u64_buffer()));
}

/// Writes a number; the default, zero, is not written.
fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        put_varint(out, field << 3);
        put_varint(out, number);
    }
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
