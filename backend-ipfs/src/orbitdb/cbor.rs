//! dag-cbor, read as leniently and written as strictly as the JavaScript library does it (`@ipld/dag-cbor` 9, `cborg`).
//!
//! Its reader is not the one of the specification. It takes
//! - keys of a map in any order, but none twice;
//! - `undefined`, as null;
//! - floats of 16, 32 and 64 bits, which to it are numbers: a whole one up to 2^53 − 1 is an integer afterwards;
//! - text that is not UTF-8, with U+FFFD in its place, and without a byte order mark at its beginning.
//!
//! It refuses indefinite lengths, lengths and integers in more bytes than they need, NaN and the infinities, tags other
//! than 42, simple values, keys that are not text, and bytes that follow.
//!
//! We refuse some of what it takes: values deeper than [`MAX_DEPTH`] or with more than [`MAX_VALUES`] parts; the key
//! `__proto__`, of which its versions make different things; links whose hash is over 64 bytes, or whose numbers are
//! not in the shortest form.

use std::borrow::Cow;

use bytes::Bytes;
use ipld_core::ipld::Ipld;
use talkbox_core::{Error, ErrorKind, Result};

use super::Cid;

/// A value of the data model.
pub(crate) type Value = Ipld;

/// How deep lists and maps may be nested. An event in an entry is at 5; reading recurs, and the stack of a thread is
/// finite.
const MAX_DEPTH: usize = 64;
/// How many values there may be in one. A value takes up to a hundred bytes of memory however short it is on the wire,
/// so this keeps what is read within some megabytes; the event with most tags that fits into an envelope has a third.
const MAX_VALUES: usize = 65_536;
/// The greatest integer up to which a JavaScript number is exact.
pub(super) const MAX_SAFE: u64 = (1 << 53) - 1;
/// What names the prototype of an object in JavaScript, and so is no name of a member.
const PROTOTYPE: &str = "__proto__";
/// The tag of a link, and the byte before its CID.
const LINK: u64 = 42;
const LINK_PREFIX: u8 = 0;

/// Reads one value that takes up all the bytes.
///
/// # Errors
/// `InvalidEnvelope`.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value> {
    decode_at(bytes, 0, 0)
}

/// Reads a part of a value: how deep it is in it, and how many values there are beside it.
///
/// # Errors
/// `InvalidEnvelope`.
pub(super) fn decode_at(bytes: &[u8], depth: usize, beside: usize) -> Result<Value> {
    let mut reader = Reader { rest: bytes, left: MAX_VALUES.saturating_sub(beside) };
    let value = reader.value(depth)?;
    if reader.rest.is_empty() { Ok(value) } else { Err(malformed("bytes follow the value")) }
}

/// The bytes of each of the values that follow each other here. Ends after the first that is none.
pub(crate) fn items(bytes: &Bytes) -> impl Iterator<Item = Result<Bytes>> + use<> {
    let mut rest = bytes.clone();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut reader = Reader::new(&rest);
        let read = reader.value(0).map(|_| rest.len() - reader.rest.len());
        Some(match read {
            Ok(len) => Ok(rest.split_to(len)),
            Err(error) => {
                rest.clear();
                Err(error)
            }
        })
    })
}

/// Writes a value in the one canonical form.
///
/// # Errors
/// `InvalidInput` for what the form cannot hold: NaN, the infinities, integers beyond 64 bits, and depth.
pub(crate) fn encode(value: &Value) -> Result<Vec<u8>> {
    encode_at(value, 0)
}

/// Writes a part of a value: how deep it is in it.
///
/// # Errors
/// As [`encode`].
pub(super) fn encode_at(value: &Value, depth: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    write(&mut out, value, depth)?;
    Ok(out)
}

/// Whether these bytes are a value, and what would be written of it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn is_canonical(bytes: &[u8]) -> bool {
    decode(bytes).and_then(|value| encode(&value)).is_ok_and(|written| written == bytes)
}

/// The text that a value is.
pub(super) fn as_text(value: &Value) -> Option<&str> {
    match value {
        Ipld::String(text) => Some(text),
        _ => None,
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// How many more values may be read.
    left: usize,
}

impl<'a> Reader<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, left: MAX_VALUES }
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        self.left = self.left.checked_sub(1).ok_or_else(|| malformed("too many values"))?;
        if depth > MAX_DEPTH {
            return Err(malformed("too deep"));
        }
        let first = self.array::<1>()?[0];
        let minor = first & 31;
        Ok(match first >> 5 {
            0 => Ipld::Integer(self.number(minor)?.into()),
            1 => Ipld::Integer(-1 - i128::from(self.number(minor)?)),
            2 => Ipld::Bytes(self.string(minor)?.to_vec()),
            3 => Ipld::String(text(self.string(minor)?).into_owned()),
            4 => {
                let len = self.number(minor)?;
                // Grows as the items come, so that a length alone costs nothing.
                let mut list = Vec::new();
                for _ in 0..len {
                    list.push(self.value(depth + 1)?);
                }
                Ipld::List(list)
            }
            5 => self.map(minor, depth)?,
            6 if self.number(minor)? == LINK => self.link()?,
            6 => return Err(malformed("a tag that is no link")),
            _ => self.simple(minor)?,
        })
    }

    fn map(&mut self, minor: u8, depth: usize) -> Result<Value> {
        let mut map = std::collections::BTreeMap::new();
        for _ in 0..self.number(minor)? {
            let first = self.array::<1>()?[0];
            if first >> 5 != 3 {
                return Err(malformed("a key that is no text"));
            }
            let key = text(self.string(first & 31)?);
            if key == PROTOTYPE || map.contains_key(key.as_ref()) {
                return Err(malformed("a key that stands twice, or that is none"));
            }
            let value = self.value(depth + 1)?;
            map.insert(key.into_owned(), value);
        }
        Ok(Ipld::Map(map))
    }

    fn link(&mut self) -> Result<Value> {
        let not_one = || malformed("a link that is none");
        let first = self.array::<1>()?[0];
        if first >> 5 != 2 {
            return Err(not_one());
        }
        let (prefix, mut bytes) = self.string(first & 31)?.split_first().ok_or_else(not_one)?;
        let cid = Cid::read_bytes(&mut bytes).map_err(|error| not_one().source(error))?;
        // Beyond, a JavaScript number names another codec.
        let is_exact = cid.codec() <= MAX_SAFE && cid.hash().code() <= MAX_SAFE;
        if *prefix == LINK_PREFIX && bytes.is_empty() && is_exact { Ok(Ipld::Link(cid)) } else { Err(not_one()) }
    }

    fn simple(&mut self, minor: u8) -> Result<Value> {
        match minor {
            20 => Ok(Ipld::Bool(false)),
            21 => Ok(Ipld::Bool(true)),
            22 | 23 => Ok(Ipld::Null),
            25 => self.array().and_then(|half| float(half_to_double(u16::from_be_bytes(half)))),
            26 => self.array().and_then(|single| float(f32::from_be_bytes(single).into())),
            27 => self.array().and_then(|double| float(f64::from_be_bytes(double))),
            _ => Err(malformed("a simple value, or an indefinite length")),
        }
    }

    /// The number that stands in the first byte or after it, in no more bytes than it needs.
    fn number(&mut self, minor: u8) -> Result<u64> {
        let (number, least) = match minor {
            0..=23 => return Ok(minor.into()),
            24 => (self.array::<1>()?[0].into(), 24),
            25 => (u16::from_be_bytes(self.array()?).into(), 1 << 8),
            26 => (u32::from_be_bytes(self.array()?).into(), 1 << 16),
            27 => (u64::from_be_bytes(self.array()?), 1 << 32),
            _ => return Err(malformed("an indefinite length")),
        };
        if number < least { Err(malformed("a number in more bytes than it needs")) } else { Ok(number) }
    }

    fn string(&mut self, minor: u8) -> Result<&'a [u8]> {
        let len = usize::try_from(self.number(minor)?).map_err(|_| short())?;
        let (string, rest) = self.rest.split_at_checked(len).ok_or_else(short)?;
        self.rest = rest;
        Ok(string)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(short)?;
        self.rest = rest;
        Ok(*array)
    }
}

/// Text as `TextDecoder` reads it.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
}

/// A number as JavaScript has it: whole ones are integers as far as they are exact.
fn float(number: f64) -> Result<Value> {
    if !number.is_finite() {
        Err(malformed("NaN or infinite"))
    } else if number.fract() == 0.0 && number.abs() <= MAX_SAFE as f64 {
        Ok(Ipld::Integer(number as i128))
    } else {
        Ok(Ipld::Float(number))
    }
}

fn half_to_double(half: u16) -> f64 {
    let (exponent, fraction) = (half >> 10 & 31, f64::from(half & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 => f64::NAN,
        _ => (fraction + 1024.0) * 2f64.powi(i32::from(exponent) - 25),
    };
    if half >> 15 == 0 { size } else { -size }
}

fn write(out: &mut Vec<u8>, value: &Value, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidInput, "too deep for dag-cbor"));
    }
    match value {
        Ipld::Null => out.push(0xf6),
        Ipld::Bool(value) => out.push(0xf4 | u8::from(*value)),
        Ipld::Integer(number) => write_integer(out, *number)?,
        Ipld::Float(number) => match float(*number) {
            Ok(Ipld::Integer(number)) => write_integer(out, number)?,
            Ok(_) => {
                out.push(0xfb);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Err(_) => return Err(Error::new(ErrorKind::InvalidInput, "dag-cbor has no NaN and no infinity")),
        },
        Ipld::String(text) => write_text(out, text),
        Ipld::Bytes(bytes) => {
            write_head(out, 2, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        Ipld::List(list) => {
            write_head(out, 4, list.len() as u64);
            for value in list {
                write(out, value, depth + 1)?;
            }
        }
        Ipld::Map(map) => {
            let mut members: Vec<_> = map.iter().collect();
            // Equal lengths stay as they are, in the order of their bytes.
            members.sort_by_key(|(key, _)| key.len());
            write_members(out, &members, depth)?;
        }
        Ipld::Link(cid) => {
            let bytes = cid.to_bytes();
            write_head(out, 6, LINK);
            write_head(out, 2, bytes.len() as u64 + 1);
            out.push(LINK_PREFIX);
            out.extend_from_slice(&bytes);
        }
    }
    Ok(())
}

/// Writes a map of members that are in order already.
pub(super) fn write_members<K: AsRef<str>>(out: &mut Vec<u8>, members: &[(K, &Value)], depth: usize) -> Result<()> {
    write_head(out, 5, members.len() as u64);
    for (key, value) in members {
        write_text(out, key.as_ref());
        write(out, value, depth + 1)?;
    }
    Ok(())
}

fn write_integer(out: &mut Vec<u8>, number: i128) -> Result<()> {
    let (major, number) = if number < 0 { (1, -1 - number) } else { (0, number) };
    let number = u64::try_from(number)
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "an integer of dag-cbor has at most 64 bits"))?;
    write_head(out, major, number);
    Ok(())
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, 3, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn write_head(out: &mut Vec<u8>, major: u8, number: u64) {
    let major = major << 5;
    match number {
        0..=23 => out.push(major | number as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, number as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(number as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(number as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

fn malformed(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidEnvelope, message)
}

fn short() -> Error {
    malformed("the bytes end within a value")
}

#[cfg(test)]
mod tests;
