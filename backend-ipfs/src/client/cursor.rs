//! Where a listing goes on: the epoch of our own store, and the number under which it was noticed that a peer has an
//! envelope. Peers give no order of arrival; what they turn out to have is numbered here, peer by peer.

use talkbox_core::{Cursor, Error, ErrorKind, Result};

/// A place in what one peer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Of the store.
    pub(super) epoch: u64,
    /// The last number that was given.
    pub(super) seq: i64,
}

impl Place {
    pub(super) fn cursor(self) -> Cursor {
        Cursor(format!("{:016x}.{}", self.epoch, self.seq))
    }

    /// Reads a cursor.
    ///
    /// # Errors
    /// `NotFound` where it is of another store, or none.
    pub(super) fn read(cursor: &Cursor, epoch: u64) -> Result<Self> {
        let parts = cursor.0.split_once('.');
        let read = parts.and_then(|(epoch, seq)| Some((u64::from_str_radix(epoch, 16).ok()?, seq.parse().ok()?)));
        match read {
            Some((of, seq)) if of == epoch && seq >= 0 => Ok(Self { epoch, seq }),
            _ => Err(Error::new(ErrorKind::NotFound, "the cursor is of another store")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_of_another_store_is_noticed() {
        let place = Place { epoch: 0xfeed, seq: 12 };
        let cursor = place.cursor();
        assert_eq!((cursor.0.as_str(), Place::read(&cursor, 0xfeed).ok()), ("000000000000feed.12", Some(place)));
        for bad in ["", ".", "feed", "feed.x", "feed.-1", "0.12", "feed.99999999999999999999"] {
            let error = Place::read(&Cursor(bad.to_owned()), 0xfeed).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }
}
