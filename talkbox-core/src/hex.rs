//! Hexadecimal, lower case on the way out and either case on the way in.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The bytes as lower-case digits.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push(&mut text, bytes);
    text
}

/// Appends the bytes as lower-case digits.
pub fn push(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// The bytes behind the digits; `None` unless there are exactly 2 × `N`.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// [`decode`] for the most common length.
pub fn decode32(text: &str) -> Option<[u8; 32]> {
    decode(text)
}

/// Whether this is lower-case hexadecimal of exactly `N` bytes, the only spelling that NIP-01 allows on the wire.
pub fn decode_lower<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.bytes().any(|digit| digit.is_ascii_uppercase()) { None } else { decode(text) }
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
