//! Who may read what: gift wraps, hints that some have come, and deletions of some go to the mailbox that they are addressed
//! to, to the keepers that its record names, and to their author, once the key has been proved (NIP-42). Everything else is
//! public.

use talkbox_core::{MailboxId, PublicKey, event::kind};

use super::{
    filter::{Facts, Filter},
    refusal::{Reason, Refusal},
};

/// Most keys that one connection proves. A client that reads several mailboxes on one connection is rare.
pub(crate) const MAX_KEYS: usize = 8;

/// Kinds that say who gets mail, and when. Deletions here are of gift wraps alone.
pub(super) const PRIVATE: [u16; 3] = [kind::GIFT_WRAP, kind::HINT, kind::DELETION];

/// The rights of one connection at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// The node does not gate reads.
    Everything,
    /// These keys have been proved; or they are of mailboxes that one of those keeps.
    Keys(Vec<PublicKey>),
}

impl Rights {
    /// Whether this event may go to the connection.
    pub(crate) fn may_read(&self, event: &Facts) -> bool {
        !PRIVATE.contains(&event.kind) || self.is_involved(event.author, event.mailbox)
    }

    /// Whether something private with these two ends may go to the connection.
    pub(crate) fn is_involved(&self, author: PublicKey, mailbox: Option<MailboxId>) -> bool {
        match self {
            Self::Everything => true,
            Self::Keys(keys) => keys.contains(&author) || mailbox.is_some_and(|key| keys.contains(&key.into())),
        }
    }

    /// Whether the connection may ask this at all. A filter that could give what is private has to say whose: by `#p`, by
    /// author, or by ids, which cannot be guessed and are looked at one by one.
    ///
    /// # Errors
    /// `auth-required` where no key has been proved, `restricted` where it is another's mail that is asked for.
    pub(crate) fn check(&self, filter: &Filter) -> Result<(), Refusal> {
        let Self::Keys(keys) = self else { return Ok(()) };
        if !PRIVATE.iter().any(|kind| filter.allows_kind(*kind)) {
            return Ok(());
        }
        if keys.is_empty() {
            return Err(Refusal::new(
                Reason::AuthRequired,
                "gift wraps, hints and deletions are served to their recipient, its keepers and their author",
            ));
        }
        if filter.ids.is_some()
            || self.owns_mailboxes(filter)
            || owns(keys, filter.authors.as_ref().map(|keys| keys.iter()))
        {
            return Ok(());
        }
        Err(Refusal::new(
            Reason::Forbidden,
            "gift wraps, hints and deletions are served by #p or author of your own, or by ids",
        ))
    }

    /// Whether every match of the filter is addressed to one of the keys, so that nothing further has to be asked.
    pub(crate) fn owns_mailboxes(&self, filter: &Filter) -> bool {
        match (self, &filter.mailboxes) {
            (Self::Everything, _) => true,
            (Self::Keys(keys), Some(mailboxes)) => mailboxes.iter().all(|key| keys.contains(&(*key).into())),
            (Self::Keys(_), None) => false,
        }
    }
}

fn owns<'a>(keys: &[PublicKey], mut asked: Option<impl Iterator<Item = &'a PublicKey>>) -> bool {
    asked.as_mut().is_some_and(|asked| asked.all(|key| keys.contains(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: [u8; 32] = [1; 32];
    const OTHER: [u8; 32] = [2; 32];

    fn rights() -> Rights {
        Rights::Keys(vec![PublicKey::from_bytes(ME)])
    }

    fn asks(p: &[[u8; 32]]) -> Filter {
        Filter { mailboxes: Some(p.iter().copied().map(MailboxId::from_bytes).collect()), ..Filter::default() }
    }

    #[test]
    fn only_ones_own_mail_may_be_asked_for() {
        assert_eq!(rights().check(&asks(&[ME])), Ok(()));
        let refused = |rights: Rights, filter: &Filter| rights.check(filter).expect_err("refused").reason();
        assert_eq!(refused(rights(), &asks(&[ME, OTHER])), Reason::Forbidden);
        assert_eq!(refused(rights(), &Filter::default()), Reason::Forbidden);
        assert_eq!(refused(Rights::Keys(vec![]), &asks(&[ME])), Reason::AuthRequired);
        assert_eq!(Rights::Everything.check(&asks(&[OTHER])), Ok(()));
    }

    #[test]
    fn records_and_lists_are_public_and_hints_and_deletions_are_not() {
        let of = |kinds: &[u16]| Filter { kinds: Some(kinds.iter().copied().collect()), ..Filter::default() };
        let public = of(&[kind::RECORD, kind::INBOX_RELAYS]);
        assert_eq!(Rights::Keys(vec![]).check(&public), Ok(()));
        let private = [&[kind::HINT][..], &[kind::RECORD, kind::HINT], &[kind::GIFT_WRAP], &[kind::DELETION]];
        for private in private.map(of) {
            let refused = |rights: Rights| rights.check(&private).expect_err("refused").reason();
            assert_eq!(refused(Rights::Keys(vec![])), Reason::AuthRequired);
            assert_eq!(refused(rights()), Reason::Forbidden);
        }
        assert_eq!(rights().check(&Filter { kinds: Some([kind::HINT].into()), ..asks(&[ME]) }), Ok(()));
    }
}
