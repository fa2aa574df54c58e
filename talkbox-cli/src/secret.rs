//! One secret key as it stands in a file: encrypted (`ncryptsec`, NIP-49) or plain (`nsec`, NIP-19).

use std::fmt;

use serde::{Deserialize, Serialize};
use talkbox_core::{Error, ErrorKind, SecretKey};
use zeroize::Zeroizing;

use crate::exit::{Failure, Outcome};

/// A secret as it stands in a file.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|secret| Self(Zeroizing::new(secret)))
    }
}

impl Secret {
    /// What a file holds.
    pub(crate) const fn of_text(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// What goes into a file.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// A key as it is kept: encrypted where there is a password.
    pub(crate) fn seal(key: &SecretKey, password: Option<&str>) -> Outcome<Self> {
        Ok(Self(match password {
            Some(password) => Zeroizing::new(key.to_ncryptsec(password)?),
            None => key.to_nsec(),
        }))
    }

    /// Whether it stands there for everybody who can read the file.
    pub(crate) fn is_plain(&self) -> bool {
        !self.0.trim_start().starts_with("ncryptsec1")
    }

    /// The key.
    ///
    /// # Errors
    /// `Locked` for a wrong password, or none where one is needed.
    pub(crate) fn open(&self, password: Option<&str>) -> Outcome<SecretKey> {
        match (self.is_plain(), password) {
            (true, _) => SecretKey::from_nsec(&self.0).map_err(unreadable),
            (false, Some(password)) => SecretKey::from_ncryptsec(&self.0, password).map_err(unreadable),
            (false, None) => Err(Failure::locked("the key is encrypted, and there is no password")),
        }
    }
}

/// What is wrong with the file and not with what was typed.
fn unreadable(error: Error) -> Failure {
    if error.kind() != ErrorKind::InvalidInput {
        return error.into();
    }
    Failure::locked(format!("a key on this computer is damaged: {}", error.message())).hint(
        "`talkbox config path` says where they are: bring `store.key`, or the file of the mailbox, back from a copy",
    )
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
