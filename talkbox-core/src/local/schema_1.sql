-- Version 1. Times are seconds since 1970; ids are 32 bytes; `sealed` is sealed at rest.

-- Mailboxes and holders under small numbers, since every other row names them.
CREATE TABLE mailboxes (
    owner      INTEGER PRIMARY KEY,
    mailbox    BLOB    NOT NULL UNIQUE,
    work_floor INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE holders (
    holder  INTEGER PRIMARY KEY,
    locator TEXT NOT NULL UNIQUE
) STRICT;

-- Every envelope that is known, with its body or without: states are those of `known.rs`. `sum` is the beginning of
-- the SHA-256 of the body, since the id of an envelope does not cover its signature.
CREATE TABLE envelopes (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    owner      INTEGER NOT NULL REFERENCES mailboxes,
    id         BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    problem    TEXT,
    message    BLOB,
    request    BLOB REFERENCES deletions ON DELETE SET NULL,
    json       TEXT,
    sum        BLOB,
    UNIQUE (owner, id)
) STRICT;
-- Covers the set that is reconciled, so that bodies are not read for it.
CREATE INDEX envelopes_by_time ON envelopes (owner, created_at, id, until);
CREATE INDEX envelopes_by_message ON envelopes (owner, message) WHERE message IS NOT NULL;
CREATE INDEX envelopes_with_body ON envelopes (until) WHERE json IS NOT NULL;
CREATE INDEX envelopes_without_message ON envelopes (until) WHERE state <> 0;
CREATE INDEX envelopes_rejected ON envelopes (owner, seq) WHERE state = 2;
CREATE INDEX envelopes_to_delete ON envelopes (owner, seq) WHERE state = 3 AND request IS NULL;
CREATE INDEX envelopes_by_request ON envelopes (request) WHERE request IS NOT NULL;

CREATE TABLE messages (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    owner      INTEGER NOT NULL REFERENCES mailboxes,
    id         BLOB    NOT NULL,
    envelope   BLOB    NOT NULL,
    sort_time  INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    read_at    INTEGER,
    kind       INTEGER NOT NULL,
    work       INTEGER NOT NULL,
    sealed     BLOB    NOT NULL,
    UNIQUE (owner, id)
) STRICT;
CREATE INDEX messages_by_time ON messages (owner, sort_time, seq);
CREATE INDEX messages_unread ON messages (owner, sort_time, seq) WHERE read_at IS NULL;

-- Messages that the owner deleted: neither a lagging holder nor another wrap brings them back.
CREATE TABLE tombstones (
    owner   INTEGER NOT NULL REFERENCES mailboxes,
    message BLOB    NOT NULL,
    until   INTEGER NOT NULL,
    PRIMARY KEY (owner, message)
) STRICT, WITHOUT ROWID;

-- Signed requests to delete, and how far each got at each holder.
CREATE TABLE deletions (
    id       BLOB    PRIMARY KEY,
    owner    INTEGER NOT NULL REFERENCES mailboxes,
    json     TEXT    NOT NULL,
    made_at  INTEGER NOT NULL,
    next_try INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX deletions_due ON deletions (next_try) WHERE next_try IS NOT NULL;
CREATE TABLE deletion_holders (
    request BLOB    NOT NULL REFERENCES deletions ON DELETE CASCADE,
    holder  INTEGER NOT NULL REFERENCES holders,
    state   INTEGER NOT NULL,
    words   TEXT,
    PRIMARY KEY (request, holder)
) STRICT, WITHOUT ROWID;

-- Which holder has which envelope of one's own mailboxes.
CREATE TABLE holdings (
    envelope  INTEGER NOT NULL REFERENCES envelopes ON DELETE CASCADE,
    holder    INTEGER NOT NULL REFERENCES holders,
    since     INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    until     INTEGER,
    PRIMARY KEY (envelope, holder)
) STRICT, WITHOUT ROWID;

CREATE TABLE cursors (
    owner  INTEGER NOT NULL REFERENCES mailboxes,
    holder INTEGER NOT NULL REFERENCES holders,
    cursor TEXT    NOT NULL,
    PRIMARY KEY (owner, holder)
) STRICT, WITHOUT ROWID;

-- What is to be sent, and what was. `state` is that of `outbox/state.rs`; `sealed` is the message and its seal.
CREATE TABLE outbox (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         BLOB    NOT NULL UNIQUE,
    recipient  BLOB    NOT NULL,
    message    BLOB    NOT NULL,
    copy_of    BLOB,
    created_at INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    envelope   BLOB    NOT NULL,
    json       TEXT    NOT NULL,
    sum        BLOB    NOT NULL,
    locators   TEXT    NOT NULL,
    min_acks   INTEGER NOT NULL,
    acks       INTEGER NOT NULL DEFAULT 0,
    attempts   INTEGER NOT NULL DEFAULT 0,
    state      INTEGER NOT NULL DEFAULT 0,
    reason     TEXT,
    next_try   INTEGER,
    lease      INTEGER,
    leased_by  INTEGER,
    stored_at  INTEGER,
    ended_at   INTEGER,
    sealed     BLOB    NOT NULL
) STRICT;
CREATE INDEX outbox_due ON outbox (next_try) WHERE state = 0 AND next_try IS NOT NULL;
CREATE INDEX outbox_by_message ON outbox (message);
-- The latest word of each holder on each entry.
CREATE TABLE answers (
    outbox   BLOB    NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
    holder   INTEGER NOT NULL REFERENCES holders,
    answer   INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    envelope BLOB    NOT NULL,
    level    INTEGER,
    until    INTEGER,
    kind     TEXT,
    retry    INTEGER,
    words    TEXT,
    PRIMARY KEY (outbox, holder)
) STRICT, WITHOUT ROWID;
-- One-time keys of the wraps of an entry, in a table of their own so that they can be wiped alone.
CREATE TABLE wrap_keys (
    envelope BLOB PRIMARY KEY,
    outbox   BLOB NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
    sealed   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX wrap_keys_by_outbox ON wrap_keys (outbox);

-- Contacts: a tag stands for the code or mailbox, so that the file does not say who they are.
CREATE TABLE pins (
    code      BLOB    PRIMARY KEY,
    mailbox   BLOB    NOT NULL UNIQUE,
    pinned_at INTEGER NOT NULL,
    sealed    BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE failed_candidates (
    code      BLOB    NOT NULL,
    key       BLOB    NOT NULL,
    failed_at INTEGER NOT NULL,
    PRIMARY KEY (code, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX failed_candidates_by_time ON failed_candidates (code, failed_at);
CREATE TABLE conversations (
    recipient  BLOB    PRIMARY KEY,
    created_at INTEGER NOT NULL,
    sealed     BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

-- The owner's own settings, in clear and sealed.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE secrets (
    name   TEXT PRIMARY KEY,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;
