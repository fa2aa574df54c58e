//! The bytes of a message: a version, then ranges, each from where the one before it ended.
//!
//! <https://github.com/hoytech/negentropy/blob/master/docs/negentropy-protocol-v1.md>

use super::{
    fingerprint::Fingerprint,
    item::{Bound, Item},
};
use crate::{Error, ErrorKind, EventId, Result, Timestamp};

/// The version that is spoken, as the first byte of a message.
pub(super) const VERSION: u8 = 0x61;
/// What says that a message is of some version.
const VERSIONS: std::ops::RangeInclusive<u8> = 0x60..=0x6f;

/// Most ranges of a message. The shortest takes 3 bytes, so that whatever fits into the 128 KiB that a node takes has
/// fewer; where the caller takes longer messages, the work is still bounded, below 0.1 s over a million items.
pub const MAX_RANGES: usize = 65_536;

const SKIP: u64 = 0;
const FINGERPRINT: u64 = 1;
const IDS: u64 = 2;
const ID_BYTES: usize = 32;

/// A number as digits of seven bits, the most significant first, and as few as possible.
pub(super) struct Varint {
    digits: [u8; Self::MOST],
    start: usize,
}

impl Varint {
    /// Digits of the greatest number.
    const MOST: usize = 10;

    pub(super) fn of(mut number: u64) -> Self {
        let mut varint = Self { digits: [0; Self::MOST], start: Self::MOST };
        let mut more = 0;
        loop {
            varint.start -= 1;
            varint.digits[varint.start] = (number & 0x7f) as u8 | more;
            number >>= 7;
            more = 0x80;
            if number == 0 {
                return varint;
            }
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

/// A range of a message that came in.
pub(super) struct Told<'a> {
    /// Where it ends.
    pub(super) end: Bound,
    pub(super) payload: Payload<'a>,
}

/// What is told of a range.
pub(super) enum Payload<'a> {
    /// Nothing: it is settled.
    Skip,
    Fingerprint(Fingerprint),
    /// All ids in it.
    Ids(&'a [[u8; ID_BYTES]]),
}

/// Whether a message is of the version that is spoken; its ranges.
pub(super) enum Opened<'a> {
    Ranges(Reader<'a>),
    OtherVersion,
}

/// Reads a message, range by range.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    last: Bound,
    ranges: usize,
}

impl<'a> Reader<'a> {
    /// Reads the version.
    pub(super) fn open(message: &'a [u8]) -> Result<Opened<'a>> {
        match message.split_first() {
            Some((&VERSION, rest)) => Ok(Opened::Ranges(Self { rest, last: Bound::START, ranges: 0 })),
            Some((version, _)) if VERSIONS.contains(version) => Ok(Opened::OtherVersion),
            Some(_) => Err(malformed("no version of the protocol starts with this byte")),
            None => Err(malformed("the message is empty")),
        }
    }

    /// The next range. `None` at the end of the message.
    pub(super) fn range(&mut self) -> Result<Option<Told<'a>>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.ranges += 1;
        if self.ranges > MAX_RANGES {
            return Err(malformed("the message has too many ranges"));
        }
        let end = self.bound()?;
        let payload = match self.number()? {
            SKIP => Payload::Skip,
            FINGERPRINT => {
                let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(ends_early)?;
                self.rest = rest;
                Payload::Fingerprint(Fingerprint::from_bytes(*bytes))
            }
            IDS => Payload::Ids(self.ids()?),
            _ => return Err(malformed("a range tells what is not known here")),
        };
        Ok(Some(Told { end, payload }))
    }

    fn bound(&mut self) -> Result<Bound> {
        let timestamp = match self.number()? {
            0 => u64::MAX,
            // The end is written as 0 only, and nothing follows it but the end again.
            ahead => match self.last.timestamp().checked_add(ahead - 1) {
                Some(timestamp) if timestamp < u64::MAX => timestamp,
                _ => return Err(malformed("a bound lies beyond the end of time")),
            },
        };
        let length = self.number()?;
        let prefix = self.take(usize::try_from(length).map_err(|_| ends_early())?)?;
        if timestamp == u64::MAX && !prefix.is_empty() {
            return Err(malformed("the end of time is told with an id"));
        }
        let bound =
            Bound::at_prefix(Timestamp(timestamp), prefix).ok_or_else(|| malformed("a bound is longer than an id"))?;
        // Equal ones are fine: a frame that is full with the last range ends with a fingerprint of nothing.
        if bound.precedes(&self.last) {
            return Err(malformed("a bound lies before the one before it"));
        }
        self.last = bound;
        Ok(bound)
    }

    fn ids(&mut self) -> Result<&'a [[u8; ID_BYTES]]> {
        let count = self.number()?;
        let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(ID_BYTES)).ok_or_else(ends_early)?;
        let (ids, _) = self.take(bytes)?.as_chunks();
        Ok(ids)
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or_else(ends_early)?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64> {
        let mut number: u64 = 0;
        loop {
            let (&digit, rest) = self.rest.split_first().ok_or_else(ends_early)?;
            self.rest = rest;
            if number == 0 && digit == 0x80 {
                return Err(malformed("a number has a leading zero"));
            }
            if number > u64::MAX >> 7 {
                return Err(malformed("a number is too large"));
            }
            number = number << 7 | u64::from(digit & 0x7f);
            if digit < 0x80 {
                return Ok(number);
            }
        }
    }
}

fn ends_early() -> Error {
    malformed("the message ends within a range")
}

fn malformed(why: &'static str) -> Error {
    Error::new(ErrorKind::Unexpected, why).op("reconcile")
}

/// Writes a message, range by range.
pub(super) struct Writer {
    bytes: Vec<u8>,
    last: u64,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![VERSION], last: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written but the version.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == 1
    }

    pub(super) fn skip(&mut self, end: &Bound) {
        self.range(end, SKIP);
    }

    pub(super) fn fingerprint(&mut self, end: &Bound, fingerprint: Fingerprint) {
        self.range(end, FINGERPRINT);
        self.bytes.extend_from_slice(fingerprint.as_bytes());
    }

    /// Begins a list of so many ids, each of which [`id`](Self::id) then adds.
    pub(super) fn ids(&mut self, end: &Bound, count: usize) {
        self.range(end, IDS);
        self.number(count as u64);
        self.bytes.reserve(count * ID_BYTES);
    }

    pub(super) fn id(&mut self, item: &Item) {
        self.bytes.extend_from_slice(item.id().as_bytes());
    }

    /// Takes back what was written since it was so long, to end it with the fingerprint of all that remains.
    pub(super) fn end_at(&mut self, len: usize, remainder: Fingerprint) {
        self.bytes.truncate(len);
        self.fingerprint(&Bound::END, remainder);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn range(&mut self, end: &Bound, mode: u64) {
        // Bounds are written in order, and no item has the time of the end: neither difference nor sum overflows.
        match end.timestamp() {
            u64::MAX => self.number(0),
            timestamp => self.number(timestamp.saturating_sub(self.last).saturating_add(1)),
        }
        self.last = end.timestamp();
        self.number(end.prefix().len() as u64);
        self.bytes.extend_from_slice(end.prefix());
        self.number(mode);
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend_from_slice(Varint::of(number).bytes());
    }
}

/// How many ids of a list still begin within so many bytes.
pub(super) const fn ids_within(bytes: usize) -> usize {
    bytes / ID_BYTES + 1
}

/// The id of a list.
pub(super) const fn told_id(bytes: &[u8; ID_BYTES]) -> EventId {
    EventId::from_bytes(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_can_be_and_are_read_back() {
        for number in [0, 1, 127, 128, 16_383, 16_384, 1 << 63, u64::MAX] {
            let written = Varint::of(number);
            let bits = (64 - number.leading_zeros()).max(1);
            assert_eq!(written.bytes().len() as u32, bits.div_ceil(7));
            let mut reader = Reader { rest: written.bytes(), last: Bound::START, ranges: 0 };
            assert_eq!(reader.number().expect("a number"), number);
            assert!(reader.rest.is_empty());
        }
        assert_eq!(Varint::of(300).bytes(), [0x82, 0x2c]);
    }

    /// What a message of these bytes behind the version is refused for.
    fn refused(bytes: &[u8]) -> String {
        let message = [&[VERSION], bytes].concat();
        let Ok(Opened::Ranges(mut reader)) = Reader::open(&message) else { panic!("the version is known") };
        loop {
            match reader.range() {
                Ok(Some(_)) => {}
                Ok(None) => return String::new(),
                Err(error) => return error.message().to_owned(),
            }
        }
    }

    #[test]
    fn what_is_malformed_is_refused_with_the_reason() {
        let ninth = [0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80];
        for (bytes, why) in [
            (&[0x80, 0x01, 0, 0][..], "leading zero"),
            (&[1, 0x80, 0, 0], "leading zero"),
            (&[1, 0, 0x80, 0], "leading zero"),
            (&[&ninth[..], &[0x80, 0x80]].concat(), "too large"),
            (&[&[0x83], &ninth[1..], &[0]].concat(), "too large"),
            (&[0x81], "ends within"),
            (&[1, 0], "ends within"),
            (&[1, 2, 7], "ends within"),
            (&[1, 0, 1, 9], "ends within"),
            (&[1, 0, 2, 1, 9], "ends within"),
            (&[1, 0, 2, 0xc0, 0x80, 0x80, 0x80, 0], "ends within"),
            (&[&[1, 0, 2][..], &ninth, &[0]].concat(), "ends within"),
            (&[1, 0, 3], "not known"),
            (&[&[1, 33][..], &[1; 33], &[0]].concat(), "longer than an id"),
            (&[5, 1, 7, 0, 1, 1, 6, 0], "before the one before"),
            (&[5, 1, 7, 0, 1, 0, 0], "before the one before"),
            (&[0, 0, 0, 1, 0, 0], "beyond the end"),
            (&[&[0x81][..], &[0xff; 8], &[0x7f, 0, 0, 3, 0, 0]].concat(), "beyond the end"),
            (&[0, 1, 7, 0], "with an id"),
        ] {
            let said = refused(bytes);
            assert!(said.contains(why), "{bytes:?}: {said}");
        }
        // The same bound again, and the end after the end, are what a full frame makes.
        assert_eq!(refused(&[5, 1, 7, 0, 1, 1, 7, 0, 0, 0, 0, 0, 0, 0]), "");
    }

    #[test]
    fn a_message_has_only_so_many_ranges() {
        assert_eq!(refused(&[1, 0, 0].repeat(MAX_RANGES)), "");
        assert!(refused(&[1, 0, 0].repeat(MAX_RANGES + 1)).contains("too many"));
    }

    #[test]
    fn only_versions_are_versions() {
        assert!(matches!(Reader::open(&[0x60]), Ok(Opened::OtherVersion)));
        assert!(matches!(Reader::open(&[0x6f, 1]), Ok(Opened::OtherVersion)));
        assert!(Reader::open(&[0x70]).is_err() && Reader::open(&[0x5f]).is_err() && Reader::open(&[]).is_err());
    }
}
