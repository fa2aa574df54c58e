//! Randomness for keys, nonces and times: only ever from the operating system.

use crate::{Error, ErrorKind, Result};

/// So many random bytes.
///
/// # Errors
/// `Unexpected` where the operating system has none to give.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(ErrorKind::Unexpected, "the operating system gives no randomness").source(error))?;
    Ok(bytes)
}
