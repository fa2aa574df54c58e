//! What stands behind the question mark of a URL.

use talkbox_core::{MailboxId, hex};
use url::form_urlencoded;

use crate::node::{cursor::ArrivalCursor, refusal::Refusal};

/// The parts that any route knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    /// Only what came after this.
    pub(super) after: Option<ArrivalCursor>,
    pub(super) limit: Option<usize>,
    pub(super) mailbox: Option<MailboxId>,
    /// All that the node holds, and not a mailbox.
    pub(super) whole: bool,
}

impl Query {
    /// # Errors
    /// `Malformed` for what is unknown, named twice or cannot be read.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Refusal> {
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            match &*name {
                "after" if query.after.is_none() => query.after = Some(value.parse()?),
                "limit" if query.limit.is_none() => {
                    query.limit = Some(value.parse().map_err(|_| Refusal::malformed("the limit is no number"))?);
                }
                "set" if &*value == "whole" && !query.whole => query.whole = true,
                "mailbox" if query.mailbox.is_none() => query.mailbox = Some(mailbox(&value)?),
                _ => {
                    return Err(Refusal::malformed(
                        "an unknown or repeated part of the query; known are after, limit, mailbox and set=whole",
                    ));
                }
            }
        }
        Ok(query)
    }
}

/// The mailbox that a URL names.
///
/// # Errors
/// `Malformed`.
pub(super) fn mailbox(text: &str) -> Result<MailboxId, Refusal> {
    hex::decode_lower(text)
        .map(MailboxId::from_bytes)
        .ok_or_else(|| Refusal::malformed("a mailbox is named by 64 lower-case hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_parts_are_read_and_others_refused() {
        assert_eq!(Query::parse(None), Ok(Query::default()));
        let cursor = ArrivalCursor { epoch: 1, place: 7 };
        let read = Query::parse(Some("limit=5&after=0000000000000001.7"));
        assert_eq!(read, Ok(Query { after: Some(cursor), limit: Some(5), ..Query::default() }));
        assert!(Query::parse(Some("set=whole")).is_ok_and(|query| query.whole));
        for wrong in ["limit=x", "limit=-1", "limit=1&limit=2", "after=", "since=3", "set=part"] {
            assert!(Query::parse(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
