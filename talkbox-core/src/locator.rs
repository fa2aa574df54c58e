//! Locators: where a mailbox can be found, opaque to everything but the backend that opens them.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{Error, ErrorKind, Result};

/// Most bytes of a locator; a record holds up to eight.
pub const MAX_LOCATOR_BYTES: usize = 256;

/// `scheme:rest`, such as `nostr:wss://relay.example`: the only joint between a transport and a mailbox.
///
/// It also names a holder: the relay, node, peer or pin service behind it, which can be asked by itself.
///
/// ```
/// use talkbox_core::Locator;
///
/// let locator: Locator = "nostr:wss://relay.example".parse()?;
/// assert_eq!((locator.scheme(), locator.rest()), ("nostr", "wss://relay.example"));
/// # Ok::<(), talkbox_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locator {
    text: Arc<str>,
    scheme: usize,
}

impl Locator {
    /// From its two parts.
    ///
    /// # Errors
    /// `InvalidInput` where the scheme is not `[a-z][a-z0-9+.-]*`, the rest is empty or holds white space or control
    /// characters, or both are longer than [`MAX_LOCATOR_BYTES`].
    pub fn new(scheme: &str, rest: &str) -> Result<Self> {
        let invalid = |why: &'static str| Error::new(ErrorKind::InvalidInput, why);
        let mut symbols = scheme.bytes();
        let first = symbols.next().is_some_and(|symbol| symbol.is_ascii_lowercase());
        let others = symbols.all(|symbol| matches!(symbol, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'.' | b'-'));
        if !(first && others) {
            return Err(invalid("a locator starts with a scheme, as in `nostr:wss://relay.example`"));
        }
        if rest.is_empty() || rest.chars().any(|symbol| symbol.is_whitespace() || symbol.is_control()) {
            return Err(invalid("a locator names a place after its scheme, without spaces"));
        }
        if scheme.len() + 1 + rest.len() > MAX_LOCATOR_BYTES {
            return Err(invalid("a locator has at most 256 bytes"));
        }
        Ok(Self { text: format!("{scheme}:{rest}").into(), scheme: scheme.len() })
    }

    /// What says which backend opens it.
    pub fn scheme(&self) -> &str {
        &self.text[..self.scheme]
    }

    /// The place, in that backend's own form.
    pub fn rest(&self) -> &str {
        &self.text[self.scheme + 1..]
    }

    /// The whole.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Locator {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (scheme, rest) = text.split_once(':').unwrap_or_default();
        Self::new(scheme, rest)
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl serde::Serialize for Locator {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for Locator {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_locator_is_refused() {
        for bad in ["", "nostr", "nostr:", ":x", "No:x", "1a:x", "a:b c", "a:b\n"] {
            assert_eq!(bad.parse::<Locator>().expect_err(bad).kind(), ErrorKind::InvalidInput);
        }
        assert!(Locator::new("a", &"x".repeat(254)).is_ok());
        assert!(Locator::new("a", &"x".repeat(255)).is_err());
    }
}
