//! What the node takes: kinds, sizes, times, work. This is the one place that says no before anything is verified;
//! quotas, which need the store, are applied where the store is written, by the numbers that are given here.

use talkbox_core::{
    MailboxId, Timestamp,
    envelope::{self, MAX_ENVELOPE_BYTES, MAX_FUTURE, MAX_RETENTION},
    event::{Wire, kind},
    hex, pow,
    record::{MAX_RECORD_BYTES, RECORD_WORK},
};

use super::{
    config::Limits,
    own_url::OwnUrl,
    refusal::{Reason, Refusal},
};

/// Most tags of an event: a deletion of 100 envelopes has 102.
pub(crate) const MAX_TAGS: usize = 128;
/// Most bytes of one value of a tag, as at other relays.
pub(crate) const MAX_TAG_VALUE: usize = 1_024;
/// How long a deletion is kept after its time: the 400 days that an envelope can be kept, and the 2 days by which it
/// may be dated back. In seconds.
const DELETION_KEPT: u64 = MAX_RETENTION + envelope::MAX_BACKDATE;

/// The kinds that are taken.
pub(crate) const KINDS: [u16; 6] =
    [kind::DELETION, kind::VANISH, kind::GIFT_WRAP, kind::INBOX_RELAYS, kind::HINT, kind::RECORD];

/// What is done with an event of an accepted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// A gift wrap: stored for its mailbox.
    Envelope,
    /// Stored, and carried out.
    Deletion,
    /// Stored in the place of an older one of the same author and kind.
    Replaceable,
    /// As before, after a look at whether the shortcode is that of the key.
    Record,
    /// Passed on and not stored.
    Hint,
    /// Stored; all mail to the author, and all that is from it, goes (NIP-62).
    Vanish,
}

impl Treatment {
    const fn of(kind: u16) -> Option<Self> {
        match kind {
            kind::GIFT_WRAP => Some(Self::Envelope),
            kind::DELETION => Some(Self::Deletion),
            kind::INBOX_RELAYS => Some(Self::Replaceable),
            kind::RECORD => Some(Self::Record),
            kind::HINT => Some(Self::Hint),
            kind::VANISH => Some(Self::Vanish),
            _ => None,
        }
    }
}

/// What the policy found out about an event on the way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) treatment: Treatment,
    /// The `p` tag.
    pub(crate) mailbox: Option<MailboxId>,
    /// When it is dropped.
    pub(crate) expires: Timestamp,
}

/// The rules, with the numbers of this node.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    min_work: u8,
    /// The names of this node and of its peers: whoever wants to vanish from one of them vanishes from all that hold the
    /// same.
    relays: Vec<OwnUrl>,
}

impl Policy {
    pub(crate) fn new(limits: &Limits, relays: Vec<OwnUrl>) -> Self {
        Self { min_work: limits.min_work, relays }
    }

    /// Looks at an event whose id and signature are not yet believed. `bytes` is the size of its canonical form.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn examine(&self, event: &Wire<'_>, bytes: usize, now: Timestamp) -> Result<Terms, Refusal> {
        let Some(treatment) = Treatment::of(event.kind()) else {
            return Err(Refusal::new(Reason::Blocked, "this node takes kinds 5, 62, 1059, 10050, 21787 and 30787"));
        };
        let largest = if treatment == Treatment::Envelope { MAX_ENVELOPE_BYTES } else { MAX_RECORD_BYTES };
        if bytes > largest {
            return Err(Refusal::new(Reason::TooLarge, format!("the event is larger than {largest} bytes")));
        }
        if event.tags().len() > MAX_TAGS || event.tags().iter().flatten().any(|value| value.len() > MAX_TAG_VALUE) {
            return Err(Refusal::malformed(format!(
                "more than {MAX_TAGS} tags, or a value of more than {MAX_TAG_VALUE} bytes"
            )));
        }
        // NIP-70: only its author may publish it, and nobody's client does so with a key that is thrown away.
        if event.tags().iter().any(|tag| tag[0] == "-") {
            return Err(Refusal::new(Reason::Blocked, "protected events are not taken"));
        }
        if event.created_at() > now.plus(MAX_FUTURE) {
            return Err(Refusal::new(Reason::TooEarly, "created_at is more than 15 minutes in the future"));
        }
        if treatment == Treatment::Vanish && !self.is_meant(event) {
            return Err(Refusal::new(Reason::Blocked, "the request to vanish names neither this relay nor ALL_RELAYS"));
        }
        let mailbox = recipient(event)?;
        if treatment == Treatment::Envelope && mailbox.is_none() {
            return Err(Refusal::malformed("a gift wrap has exactly one p tag"));
        }
        let expires = expiry(event, treatment);
        if expires <= now {
            return Err(Refusal::new(Reason::Expired, "the event has expired"));
        }
        self.check_work(event, treatment)?;
        Ok(Terms { treatment, mailbox, expires })
    }

    /// Whether a request to vanish is one to this node, or to the nodes that hold the same.
    fn is_meant(&self, event: &Wire<'_>) -> bool {
        let mut names = event.tags().iter().filter(|tag| tag[0] == "relay").filter_map(|tag| tag.get(1));
        names.any(|name| name == "ALL_RELAYS" || self.relays.iter().any(|relay| relay.is_relay(name)))
    }

    fn check_work(&self, event: &Wire<'_>, treatment: Treatment) -> Result<(), Refusal> {
        let asked = match treatment {
            Treatment::Envelope => self.min_work,
            Treatment::Record => RECORD_WORK,
            Treatment::Deletion | Treatment::Vanish | Treatment::Replaceable | Treatment::Hint => 0,
        };
        let shown = pow::bits_of(&event.id(), event.tags());
        if shown < asked {
            return Err(Refusal::new(
                Reason::Pow,
                format!("{asked} bits of work are asked for, and {shown} are shown"),
            ));
        }
        Ok(())
    }
}

/// The key in the `p` tag. More than one would put an event into several mailboxes, so that it could be neither gated
/// nor deleted by one of them.
fn recipient(event: &Wire<'_>) -> Result<Option<MailboxId>, Refusal> {
    let mut tags = event.tags().iter().filter(|tag| tag[0] == "p");
    let Some(tag) = tags.next() else { return Ok(None) };
    let key = tag.get(1).and_then(|digits| hex::decode_lower(digits)).map(MailboxId::from_bytes);
    match (key, tags.next()) {
        (Some(key), None) => Ok(Some(key)),
        (Some(_), Some(_)) => Err(Refusal::malformed("more than one p tag")),
        (None, _) => Err(Refusal::malformed("the p tag is no key of 64 lower-case digits")),
    }
}

/// When an event of an accepted kind is dropped.
pub(crate) fn expires(event: &Wire<'_>) -> Option<Timestamp> {
    Treatment::of(event.kind()).map(|treatment| expiry(event, treatment))
}

fn expiry(event: &Wire<'_>, treatment: Treatment) -> Timestamp {
    let tag = event.values("expiration").next().and_then(|value| value.parse().ok()).map(Timestamp);
    let created_at = event.created_at();
    match treatment {
        Treatment::Envelope | Treatment::Hint => envelope::expires_at(created_at, tag),
        Treatment::Deletion | Treatment::Vanish => created_at.plus(DELETION_KEPT),
        // Refreshed weekly; one that nobody has refreshed for so long is of a mailbox that nobody owns.
        Treatment::Replaceable | Treatment::Record => {
            let latest = created_at.plus(MAX_RETENTION);
            tag.map_or(latest, |tag| tag.min(latest))
        }
    }
}

#[cfg(test)]
mod tests {
    use talkbox_core::{SecretKey, event::Event};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn examine(kind: u16, created_at: Timestamp, tags: &[&[&str]], min_work: u8) -> Result<Terms, Refusal> {
        let tags = tags.iter().map(|tag| tag.iter().map(|value| (*value).to_owned()).collect()).collect();
        let event = Event::sign(&SecretKey::generate().expect("randomness"), created_at, kind, tags, String::new());
        let json = event.to_json();
        Policy { min_work, relays: Vec::new() }.examine(&Wire::parse(&json).expect("well-formed"), json.len(), NOW)
    }

    fn reason(result: Result<Terms, Refusal>) -> Option<Reason> {
        result.err().map(|refusal| refusal.reason())
    }

    #[test]
    fn the_kinds_that_are_named_are_those_that_are_taken() {
        let taken: Vec<u16> = (0..=u16::MAX).filter(|kind| Treatment::of(*kind).is_some()).collect();
        assert_eq!(taken, KINDS);
    }

    #[test]
    fn a_wrap_is_addressed_to_exactly_one_mailbox() {
        let (a, b) = ("0a".repeat(32), "0b".repeat(32));
        assert!(examine(1059, NOW, &[&["p", &a]], 0).is_ok());
        assert_eq!(reason(examine(1059, NOW, &[], 0)), Some(Reason::Malformed));
        assert_eq!(reason(examine(1059, NOW, &[&["p", &a], &["p", &b]], 0)), Some(Reason::Malformed));
        assert_eq!(reason(examine(1059, NOW, &[&["p", &a.to_uppercase()]], 0)), Some(Reason::Malformed));
        assert_eq!(reason(examine(1, NOW, &[], 0)), Some(Reason::Blocked));
        assert!(examine(62, NOW, &[&["relay", "ALL_RELAYS"]], 0).is_ok());
        assert_eq!(reason(examine(62, NOW, &[&["relay", "wss://other.example"]], 0)), Some(Reason::Blocked));
    }

    #[test]
    fn times_are_bounded() {
        let p = "0a".repeat(32);
        let p: &[&str] = &["p", &p];
        assert!(examine(1059, NOW.plus(900), &[p], 0).is_ok());
        assert!(examine(1059, NOW.plus(901), &[p], 0).is_err());
        assert!(examine(1059, NOW.minus(90 * 86_400), &[p], 0).is_err(), "90 days without an expiration");
        let later = NOW.plus(1).to_string();
        assert!(examine(1059, NOW.minus(399 * 86_400), &[p, &["expiration", &later]], 0).is_ok());
        assert!(examine(1059, NOW.minus(400 * 86_400), &[p, &["expiration", &later]], 0).is_err(), "400 days at most");
        assert!(examine(1059, NOW, &[p, &["expiration", &NOW.to_string()]], 0).is_err());
    }

    #[test]
    fn work_is_asked_for() {
        let p = "0a".repeat(32);
        assert_eq!(reason(examine(1059, NOW, &[&["p", &p]], 8)), Some(Reason::Pow));
        assert_eq!(reason(examine(30787, NOW, &[&["d", "X"]], 0)), Some(Reason::Pow));
    }
}
