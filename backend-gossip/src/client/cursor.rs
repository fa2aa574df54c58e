//! Cursors of a node: the epoch of its store and a place in the order of arrival. Opaque to callers; read here, so that
//! a node that leads in circles is found out.

use talkbox_core::Cursor;

/// `<16 hexadecimal digits>.<place>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    epoch: u64,
    place: u64,
}

impl Place {
    /// Reads a cursor; `None` where it is not one of a node.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (epoch, place) = text.split_once('.')?;
        let is_epoch = epoch.len() == 16 && epoch.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        // As many digits as the greatest number of 63 bits has.
        let is_place = (1..=19).contains(&place.len()) && place.bytes().all(|digit| digit.is_ascii_digit());
        if !is_epoch || !is_place {
            return None;
        }
        Some(Self { epoch: u64::from_str_radix(epoch, 16).ok()?, place: place.parse().ok()? })
    }

    /// As it is sent, and handed to callers.
    pub(super) fn cursor(self) -> Cursor {
        Cursor(format!("{:016x}.{}", self.epoch, self.place))
    }

    /// Whether a listing that came from another place and goes on here gets anywhere.
    pub(super) fn is_behind(self, from: Option<Self>) -> bool {
        from.is_none_or(|from| self.epoch == from.epoch && self.place > from.place)
    }

    /// Whether a listing that came from another place may end here.
    pub(super) fn is_not_before(self, from: Option<Self>) -> bool {
        from.is_none_or(|from| self.epoch == from.epoch && self.place >= from.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::parse(text).expect(text)
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        assert_eq!(place("00000000000000ab.17").cursor().0, "00000000000000ab.17");
        for wrong in ["", ".", "ab.17", "00000000000000AB.17", "00000000000000ab.", "00000000000000ab.-1", "x"] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Place::parse(&format!("00000000000000ab.{}", "9".repeat(20))), None);
    }

    #[test]
    fn a_listing_goes_forward_in_one_store() {
        let (one, two, other) = (place("0000000000000001.1"), place("0000000000000001.2"), place("0000000000000002.3"));
        assert!(one.is_behind(None) && two.is_behind(Some(one)));
        assert!(!one.is_behind(Some(one)) && one.is_not_before(Some(one)));
        assert!(!one.is_not_before(Some(two)) && !other.is_behind(Some(one)) && !other.is_not_before(Some(one)));
    }
}
