//! Where a client goes on in the order of arrival: the epoch of the store and a place in it.

use std::{fmt, str::FromStr};

use super::refusal::{Reason, Refusal};

/// `<16 hexadecimal digits>.<place>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArrivalCursor {
    pub(crate) epoch: u64,
    pub(crate) place: i64,
}

impl ArrivalCursor {
    /// The place, if the cursor is of this store and not beyond its end.
    ///
    /// # Errors
    /// `CursorUnknown`: the store is another, or an older state of it.
    pub(crate) fn within(self, epoch: u64, last: i64) -> Result<i64, Refusal> {
        if self.epoch == epoch && self.place <= last {
            return Ok(self.place);
        }
        Err(Refusal::new(Reason::CursorUnknown, "the cursor is not of this store: begin again without one"))
    }
}

impl fmt::Display for ArrivalCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.epoch, self.place)
    }
}

impl FromStr for ArrivalCursor {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let malformed = || Refusal::malformed("a cursor is 16 hexadecimal digits, a point and a number");
        let (epoch, place) = text.split_once('.').ok_or_else(malformed)?;
        let are_digits = epoch.len() == 16 && epoch.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let is_number = (1..=19).contains(&place.len()) && place.bytes().all(|digit| digit.is_ascii_digit());
        let epoch = u64::from_str_radix(epoch, 16).ok().filter(|_| are_digits).ok_or_else(malformed)?;
        let place = place.parse().ok().filter(|_| is_number).ok_or_else(malformed)?;
        Ok(Self { epoch, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        let cursor = ArrivalCursor { epoch: 0xab, place: 17 };
        assert_eq!(cursor.to_string(), "00000000000000ab.17");
        assert_eq!("00000000000000ab.17".parse(), Ok(cursor));
        for wrong in [
            "",
            ".",
            "ab.17",
            "00000000000000AB.17",
            "00000000000000ab.",
            "00000000000000ab.-1",
            "00000000000000ab.+1",
            "00000000000000ab.17 ",
            "+0000000000000ab.17",
            "00000000000000ab.99999999999999999999",
        ] {
            assert!(wrong.parse::<ArrivalCursor>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn another_store_or_a_place_beyond_its_end_is_unknown() {
        let cursor = ArrivalCursor { epoch: 1, place: 17 };
        assert_eq!(cursor.within(1, 17), Ok(17));
        assert_eq!(cursor.within(1, 16).expect_err("beyond").reason(), Reason::CursorUnknown);
        assert_eq!(cursor.within(2, 17).expect_err("another").reason(), Reason::CursorUnknown);
    }
}
