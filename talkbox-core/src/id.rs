//! The 32-byte names of the system: mailbox, public key, envelope, message and event.

use std::{fmt, str::FromStr};

use crate::{Error, ErrorKind, Result, hex};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// From its 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// From 64 hexadecimal digits, either case.
            ///
            /// # Errors
            /// `InvalidInput` for anything else.
            pub fn from_hex(text: &str) -> Result<Self> {
                hex::decode32(text)
                    .map(Self)
                    .ok_or_else(|| Error::new(ErrorKind::InvalidInput, concat!($what, " is 64 hexadecimal digits")))
            }

            /// 64 lower-case hexadecimal digits.
            pub fn to_hex(&self) -> String {
                hex::encode(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}…)"), &self.to_hex()[..8])
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::from_hex(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_hex())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::from_hex(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id! {
    /// The public side of a mailbox: an x-only secp256k1 public key (BIP-340), shown as `npub`.
    ///
    /// Any 32 bytes can be one; whether they are a point on the curve is found out when something is sealed to it.
    MailboxId, "a mailbox id"
}
id! {
    /// The name of an envelope: the event id of its gift wrap, the same on every network.
    EnvelopeId, "an envelope id"
}
id! {
    /// The name of a message: the event id of the rumor inside, the same however often it is wrapped.
    MessageId, "a message id"
}

id! {
    /// An x-only secp256k1 public key (BIP-340): a sender, a one-time key, a keeper, a node.
    PublicKey, "a public key"
}
id! {
    /// The name of any other Nostr event: a record, a hint, a deletion, a receipt.
    EventId, "an event id"
}

impl From<PublicKey> for MailboxId {
    fn from(key: PublicKey) -> Self {
        Self(key.0)
    }
}

impl From<MailboxId> for PublicKey {
    fn from(id: MailboxId) -> Self {
        Self(id.0)
    }
}

impl From<EnvelopeId> for EventId {
    fn from(id: EnvelopeId) -> Self {
        Self(id.0)
    }
}

impl From<EventId> for EnvelopeId {
    fn from(id: EventId) -> Self {
        Self(id.0)
    }
}

impl From<EventId> for MessageId {
    fn from(id: EventId) -> Self {
        Self(id.0)
    }
}
