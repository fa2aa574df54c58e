//! One error for many: what everybody said when nobody could.

use std::{error::Error as StdError, fmt};

use crate::{Error, ErrorKind, error::Retry};

/// What everybody said: the source of the one error that comes out where all members or holders failed.
#[derive(Debug)]
pub struct Causes(Vec<(String, Error)>);

impl Causes {
    /// One error that holds them all: of the kind of the most telling one, and to be tried again where any of them is.
    pub(super) fn into_error(op: &'static str, causes: Vec<(String, Error)>) -> Error {
        let telling = causes.iter().map(|(_, error)| error).min_by_key(|error| rank(error));
        let error = match telling {
            None => Error::new(ErrorKind::Unreachable, "no holder is known"),
            Some(one) if causes.len() == 1 => copy(one),
            Some(one) => Error::new(one.kind(), one.message().to_owned()).retry(one.retry_advice()),
        };
        let error = if causes.len() > 1 { error.with("failed", causes.len()) } else { error };
        error.op(op).source(Self(causes))
    }

    /// The causes of an error, where it is one for many.
    pub fn of(error: &Error) -> Option<&Self> {
        StdError::source(error)?.downcast_ref()
    }

    /// Who said what: the name of a member, or a holder.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Error)> {
        self.0.iter().map(|(who, error)| (who.as_str(), error))
    }
}

impl fmt::Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (who, error)) in self.0.iter().enumerate() {
            write!(f, "{}{who}: {error}", if at == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl StdError for Causes {}

/// What can still go well comes first, and a bare failure to reach somebody last among it.
fn rank(error: &Error) -> (u8, bool) {
    let hope = match error.retry_advice() {
        Retry::After(_) => 0,
        Retry::Exhausted => 1,
        Retry::No => 2,
    };
    (hope, error.kind() == ErrorKind::Unreachable)
}

/// The same error without its source, which cannot be in two places.
pub(super) fn copy(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.message().to_owned()).retry(error.retry_advice());
    let copy = match error.operation() {
        Some(op) => copy.op(op),
        None => copy,
    };
    match error.context("holder") {
        Some(holder) => copy.with("holder", holder),
        None => copy,
    }
}
