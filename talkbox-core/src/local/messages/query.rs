//! What to read of a mailbox, and in which order.

use super::{Damaged, StoredMessage};
use crate::{MailboxId, Message, MessageId, MessageKind, PublicKey, Timestamp};

/// Which messages, from where, and how many.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct MessageQuery {
    /// In which order.
    pub order: Order,
    /// Goes on after this, with the same query: [`MessagePage::next`].
    pub after: Option<MessageKey>,
    /// At most so many; 0 for 256, and never more than 1,000.
    pub limit: u32,
    /// Only those that the owner has not read.
    pub unread: bool,
    /// Only those of this sender. Who sent what is sealed, so that this opens every message on its way.
    pub from: Option<PublicKey>,
    /// Only those of this time or later.
    pub since: Option<Timestamp>,
    /// Which kinds.
    pub kinds: Kinds,
    /// Only those below the work floor, or only the others; both by default.
    pub requests: Option<bool>,
    /// Which way they went.
    pub way: Way,
}

impl MessageQuery {
    /// Everything for people, the newest first.
    pub fn newest() -> Self {
        Self::default()
    }

    /// Everything for people, the oldest first.
    pub fn oldest() -> Self {
        Self { order: Order::OldestFirst, ..Self::default() }
    }

    /// Goes on after this.
    #[must_use]
    pub const fn after(mut self, after: Option<MessageKey>) -> Self {
        self.after = after;
        self
    }

    /// At most so many.
    #[must_use]
    pub const fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Only those that the owner has not read.
    #[must_use]
    pub const fn unread(mut self, unread: bool) -> Self {
        self.unread = unread;
        self
    }

    /// Only those of this sender.
    #[must_use]
    pub const fn from(mut self, from: Option<PublicKey>) -> Self {
        self.from = from;
        self
    }

    /// Only those of this time or later.
    #[must_use]
    pub const fn since(mut self, since: Option<Timestamp>) -> Self {
        self.since = since;
        self
    }

    /// These kinds.
    #[must_use]
    pub const fn kinds(mut self, kinds: Kinds) -> Self {
        self.kinds = kinds;
        self
    }

    /// Those that went this way.
    #[must_use]
    pub const fn way(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    /// Only those below the work floor, or only the others.
    #[must_use]
    pub const fn requests(mut self, requests: Option<bool>) -> Self {
        self.requests = requests;
        self
    }
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// To the mailbox: its mail.
    #[default]
    Received,
    /// From the mailbox: the owner's own copies.
    Sent,
    /// Either.
    Both,
}

impl Way {
    /// Whether a message of this mailbox went this way.
    pub fn has(self, owner: MailboxId, message: &Message) -> bool {
        self.sent().is_none_or(|sent| sent == message.is_copy_of(owner))
    }

    /// The column `sent` that it asks for.
    pub(super) const fn sent(self) -> Option<bool> {
        match self {
            Self::Received => Some(false),
            Self::Sent => Some(true),
            Self::Both => None,
        }
    }
}

/// In which order: by [`sort_time`](StoredMessage::sort_time), within a second by the sender's millisecond, then by
/// arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest first.
    #[default]
    NewestFirst,
    /// The oldest first.
    OldestFirst,
}

/// Which kinds of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// Messages for people.
    pub text: bool,
    /// Control messages between programs.
    pub control: bool,
    /// What this version does not know.
    pub unsupported: bool,
}

impl Kinds {
    /// Every kind.
    pub const ALL: Self = Self { text: true, control: true, unsupported: true };
    /// Control messages alone.
    pub const CONTROL: Self = Self { text: false, control: true, unsupported: false };

    /// Whether this kind is among them.
    pub const fn has(self, kind: MessageKind) -> bool {
        match kind {
            MessageKind::Text => self.text,
            MessageKind::Control => self.control,
            MessageKind::Unsupported(_) => self.unsupported,
        }
    }
}

impl Default for Kinds {
    /// What people get to see: messages, and that there is something that this version does not know.
    fn default() -> Self {
        Self { text: true, control: false, unsupported: true }
    }
}

/// A place in the order of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey {
    pub(super) time: i64,
    pub(super) seq: i64,
}

/// Some of the messages of a mailbox.
#[derive(Debug, Default)]
pub struct MessagePage {
    /// The messages, at most as many as were asked for. There may be fewer, or none, also before the last page.
    pub items: Vec<StoredMessage>,
    /// Rows that cannot be read.
    pub damaged: Vec<Damaged<MessageId>>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<MessageKey>,
}
