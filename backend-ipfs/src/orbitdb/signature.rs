//! Signatures as the library makes and checks them: ECDSA over SHA-256 on secp256k1, deterministic (RFC 6979), low S,
//! strict DER, in lower-case hexadecimal digits.

use secp256k1::{Message, PublicKey, SECP256K1, SecretKey, ecdsa};
use talkbox_core::hex;

/// Bytes of a compressed public key.
const KEY: usize = 33;
/// Most bytes of a signature in strict DER.
const DER: usize = 72;

/// Whether `signature` by `key`, both in digits, holds over this SHA-256.
///
/// The library decodes the digits by the rules of multibase, which drop `=` at the end as padding: so do we. Beside
/// secp256k1 it takes keys of Ed25519, RSA and NIST's curves, which no writer has; we do not. Its cache of the last
/// 1,000 valid signatures, by their text, is not imitated: there a signature that was made to fit two keys is valid for
/// the one that was seen first.
pub(super) fn holds(signature: &str, key: &str, digest: &[u8; 32]) -> bool {
    let (mut der, mut point) = ([0; DER], [0; KEY]);
    let (Some(der), Some(point)) = (digits(signature, &mut der), digits(key, &mut point)) else {
        return false;
    };
    if point.len() != KEY {
        return false;
    }
    let (Ok(signature), Ok(key)) = (ecdsa::Signature::from_der(der), PublicKey::from_slice(point)) else {
        return false;
    };
    // Also refuses a high S.
    SECP256K1.verify_ecdsa(&Message::from_digest(*digest), &signature, &key).is_ok()
}

/// Signs this SHA-256.
pub(super) fn sign(key: &SecretKey, digest: &[u8; 32]) -> String {
    hex::encode(&SECP256K1.sign_ecdsa(&Message::from_digest(*digest), key).serialize_der())
}

/// The public key of a secret one.
pub(super) fn public_of(key: &SecretKey) -> String {
    hex::encode(&key.public_key(SECP256K1).serialize())
}

/// Reads lower-case digits into a buffer; `None` where they are none, or too many.
fn digits<'a>(text: &str, into: &'a mut [u8]) -> Option<&'a [u8]> {
    let pairs = text.trim_end_matches('=').as_bytes();
    let into = into.get_mut(..pairs.len() / 2)?;
    for (byte, pair) in into.iter_mut().zip(pairs.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    pairs.len().is_multiple_of(2).then_some(into)
}

fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn digest() -> [u8; 32] {
        Sha256::digest(b"message").into()
    }

    fn key() -> SecretKey {
        SecretKey::from_slice(&[7; 32]).expect("a key")
    }

    #[test]
    fn what_is_signed_holds_for_this_key_and_message_alone() {
        let (signature, public) = (sign(&key(), &digest()), public_of(&key()));
        assert!(holds(&signature, &public, &digest()));
        assert!(!holds(&signature, &public, &[1; 32]));
        let other = public_of(&SecretKey::from_slice(&[8; 32]).expect("a key"));
        assert!(!holds(&signature, &other, &digest()));
    }

    #[test]
    fn only_the_form_that_the_library_reads_is_read() {
        let (signature, public) = (sign(&key(), &digest()), public_of(&key()));
        assert!(holds(&format!("{signature}=="), &format!("{public}="), &digest()), "padding is dropped");
        let der = SECP256K1.sign_ecdsa(&Message::from_digest(digest()), &key());
        let compact = hex::encode(&der.serialize_compact());
        let uncompressed = hex::encode(&key().public_key(SECP256K1).serialize_uncompressed());
        for (signature, key) in [
            (signature.to_uppercase(), public.clone()),
            (signature.clone(), public.to_uppercase()),
            (format!("{signature}0"), public.clone()),
            (format!("{signature}00"), public.clone()),
            (format!("={signature}"), public.clone()),
            (compact, public.clone()),
            (signature.clone(), uncompressed),
            (signature.clone(), public[..64].to_owned()),
            (signature.clone(), String::new()),
            (String::new(), public.clone()),
            ("0".repeat(4096), public),
        ] {
            assert!(!holds(&signature, &key, &digest()), "{signature} {key}");
        }
    }
}
