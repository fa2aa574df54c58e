//! Light Talkbox nodes: a Nostr relay with SQLite, made for sealed mailboxes.
