//! Who wrote an entry: identities as the library makes and checks them, and the writer that is ours.

use std::fmt;

use secp256k1::SecretKey;
use sha2::{Digest as _, Sha256};
use talkbox_core::{Error, ErrorKind, Result};

use super::{Block, Cid, Value, Why, cbor, cid_of, signature};

/// The one kind of identity that the library knows by itself.
const KIND: &str = "publickey";

/// An identity: the block, read but not believed.
///
/// Two keys stand behind it, the root, which is its `id`, and the one that signs entries. They vouch for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The CID of the block as received.
    pub(crate) cid: Cid,
    /// The root key, in digits: what access controllers list.
    pub(crate) id: String,
    /// The key for entries, in digits. That it signs them is not checked, neither by the library nor by us.
    pub(crate) public_key: String,
    kind: String,
    id_signature: String,
    key_signature: String,
}

impl Identity {
    /// Reads a block. Further members are ignored, as the library does. Unlike it, we do not take a list of one text for
    /// that text.
    ///
    /// # Errors
    /// `InvalidEnvelope`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let malformed = || Error::new(ErrorKind::InvalidEnvelope, "not an identity");
        let Value::Map(mut members) = cbor::decode(bytes)? else {
            return Err(malformed());
        };
        let Some(Value::Map(mut signatures)) = members.remove("signatures") else {
            return Err(malformed());
        };
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) if !text.is_empty() => Ok(text),
            _ => Err(malformed()),
        };
        Ok(Self {
            cid: cid_of(bytes),
            id: text(members.remove("id"))?,
            public_key: text(members.remove("publicKey"))?,
            kind: text(members.remove("type"))?,
            id_signature: text(signatures.remove("id"))?,
            key_signature: text(signatures.remove("publicKey"))?,
        })
    }

    /// Whether both keys have signed the other, as the library checks it. Two signatures: worth remembering by CID.
    ///
    /// The library remembers 1,000 valid identities by their first signature, and then refuses another with the same
    /// one, though it may be as valid. That depends on what came first, and is not imitated.
    ///
    /// # Errors
    /// [`Why::Identity`].
    pub(crate) fn verify(&self) -> std::result::Result<(), Why> {
        let holds = self.kind == KIND
            && signature::holds(&self.id_signature, &self.public_key, &hash(&[&self.id]))
            && signature::holds(&self.key_signature, &self.id, &hash(&[&self.public_key, &self.id_signature]));
        if holds { Ok(()) } else { Err(Why::Identity) }
    }
}

/// Writes entries: a key in both roles, which tells nothing of who we are, and the identity that goes with it.
pub(crate) struct Writer {
    key: SecretKey,
    public_key: String,
    identity: Block,
}

impl Writer {
    /// A writer that has never been before.
    ///
    /// # Errors
    /// `Unexpected` where the operating system has no randomness.
    pub(crate) fn generate() -> Result<Self> {
        loop {
            let mut bytes = zeroize::Zeroizing::new([0; 32]);
            getrandom::fill(&mut bytes[..])
                .map_err(|error| Error::new(ErrorKind::Unexpected, "no randomness").source(error))?;
            // All but one in 2^128 are keys.
            if let Ok(key) = SecretKey::from_slice(&bytes[..]) {
                return Ok(Self::of(&key, key));
            }
        }
    }

    /// The writer with these keys.
    pub(super) fn of(root: &SecretKey, key: SecretKey) -> Self {
        let (id, public_key) = (signature::public_of(root), signature::public_of(&key));
        let id_signature = signature::sign(&key, &hash(&[&id]));
        let key_signature = signature::sign(root, &hash(&[&public_key, &id_signature]));
        let text = |text: &str| Value::String(text.to_owned());
        let signatures =
            Value::Map([("id".to_owned(), text(&id_signature)), ("publicKey".to_owned(), text(&key_signature))].into());
        let mut bytes = Vec::new();
        let members =
            [("id", &text(&id)), ("type", &text(KIND)), ("publicKey", &text(&public_key)), ("signatures", &signatures)];
        cbor::write_members(&mut bytes, &members, 0).expect("text is dag-cbor");
        Self { key, public_key, identity: Block::of(bytes.into()) }
    }

    /// The block that has to be where the entries are.
    pub(crate) const fn identity(&self) -> &Block {
        &self.identity
    }

    /// The key that signs, in digits.
    pub(crate) fn public_key(&self) -> &str {
        &self.public_key
    }

    /// Signs bytes with this SHA-256.
    pub(super) fn sign(&self, digest: &[u8; 32]) -> String {
        signature::sign(&self.key, digest)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.key.non_secure_erase();
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({})", self.identity.cid)
    }
}

fn hash(texts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_writer_is_valid_and_like_no_other() {
        let (one, other) = (Writer::generate().expect("randomness"), Writer::generate().expect("randomness"));
        assert_ne!(one.identity(), other.identity());
        let identity = Identity::decode(&one.identity().bytes).expect("an identity");
        assert_eq!(identity.verify(), Ok(()));
        assert_eq!((identity.cid, &identity.id), (one.identity().cid, &identity.public_key));
        assert!(cbor::is_canonical(&one.identity().bytes));
        assert!(!format!("{one:?}").contains("SecretKey"));
    }

    #[test]
    fn each_member_is_signed_and_has_to_be_there() {
        let writer = Writer::generate().expect("randomness");
        let other = Writer::generate().expect("randomness");
        let members = |writer: &Writer| match cbor::decode(&writer.identity().bytes) {
            Ok(Value::Map(members)) => members,
            _ => unreachable!("an identity"),
        };
        for name in ["id", "publicKey", "signatures", "type"] {
            let mut changed = members(&writer);
            let old = changed.insert(name.to_owned(), Value::String("other".to_owned()));
            let read = |members| Identity::decode(&cbor::encode(&Value::Map(members)).expect("encodes"));
            assert!(read(changed.clone()).is_err() || read(changed.clone()).expect("read").verify().is_err(), "{name}");
            changed.remove(name);
            assert!(read(changed.clone()).is_err(), "{name}");
            let taken = members(&other).remove(name).filter(|taken| Some(taken) != old.as_ref());
            if let Some(taken) = taken {
                changed.insert(name.to_owned(), taken);
                assert_eq!(read(changed).expect("well-formed").verify(), Err(Why::Identity), "{name}");
            }
        }
        let mut more = members(&writer);
        more.insert("more".to_owned(), Value::Null);
        let more = Identity::decode(&cbor::encode(&Value::Map(more)).expect("encodes")).expect("an identity");
        assert_eq!(more.verify(), Ok(()), "what is not known is ignored");
    }
}
