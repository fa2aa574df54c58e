//! Talkbox mailboxes on Nostr relays, as they exist.
