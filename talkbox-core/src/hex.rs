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
    // A key at once: to append digit by digit looks for room at each.
    const AT_ONCE: usize = 32;
    for some in bytes.chunks(AT_ONCE) {
        let mut digits = [0; AT_ONCE * 2];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(some) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text.push_str(std::str::from_utf8(&digits[..some.len() * 2]).expect("digits are ASCII"));
    }
}

/// The bytes behind the digits; `None` unless there are exactly 2 × `N`.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    read(text, &EITHER)
}

/// [`decode`] for the most common length.
pub fn decode32(text: &str) -> Option<[u8; 32]> {
    decode(text)
}

/// Whether this is lower-case hexadecimal of exactly `N` bytes, the only spelling that NIP-01 allows on the wire.
pub fn decode_lower<const N: usize>(text: &str) -> Option<[u8; N]> {
    read(text, &LOWER)
}

/// What no digit stands for: a bit that the values of digits do not have.
const NONE: u8 = 0x80;
static LOWER: [u8; 256] = values(false);
static EITHER: [u8; 256] = values(true);

/// The value of each digit.
const fn values(upper: bool) -> [u8; 256] {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < 16 {
        let digit = DIGITS[value as usize];
        values[digit as usize] = value;
        if upper {
            values[digit.to_ascii_uppercase() as usize] = value;
        }
        value += 1;
    }
    values
}

/// Reads all digits and looks only then whether all of them were digits: every event has hundreds.
fn read<const N: usize>(text: &str, values: &[u8; 256]) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let (mut bytes, mut wrong) = ([0; N], 0);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (values[usize::from(pair[0])], values[usize::from(pair[1])]);
        wrong |= high | low;
        *byte = high << 4 | low;
    }
    (wrong & NONE == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_and_nothing_else_is_read() {
        let bytes: [u8; 256] = std::array::from_fn(|byte| byte as u8);
        let digits = encode(&bytes);
        assert_eq!(&digits[..6], "000102");
        assert_eq!((decode(&digits), decode_lower(&digits)), (Some(bytes), Some(bytes)));
        let upper = digits.to_ascii_uppercase();
        assert_eq!((decode(&upper), decode_lower::<256>(&upper)), (Some(bytes), None));
        assert_eq!((decode::<1>("0"), decode::<1>("000")), (None, None));
        for wrong in (0..=127u8).filter(|byte| !byte.is_ascii_hexdigit()).map(char::from) {
            assert_eq!(
                (decode::<1>(&format!("0{wrong}")), decode::<1>(&format!("{wrong}0"))),
                (None, None),
                "{wrong:?}"
            );
        }
        assert_eq!(decode::<1>("é"), None);
    }
}
