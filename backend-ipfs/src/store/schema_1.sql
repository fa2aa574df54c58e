-- All of this is public or sealed: nothing here is secret.

-- Small values of the store itself and of who uses it.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Whatever is served by its link. Rows follow each other as they came: what belongs together is read together.
CREATE TABLE blocks (
    number INTEGER PRIMARY KEY,
    cid BLOB NOT NULL UNIQUE,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE logs (
    log INTEGER PRIMARY KEY AUTOINCREMENT,
    address TEXT NOT NULL UNIQUE,
    mailbox BLOB NOT NULL,
    month TEXT NOT NULL,
    -- Who may write, as a list in JSON.
    write TEXT NOT NULL,
    -- Entries whose signature holds, and what all blocks of entries have in bytes.
    entries INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    -- Those among them that are not joined, or not even verified.
    waiting INTEGER NOT NULL DEFAULT 0,
    waiting_bytes INTEGER NOT NULL DEFAULT 0,
    -- Grows with every entry whose signature holds: tells whether a set that was made is still the set.
    version INTEGER NOT NULL DEFAULT 0,
    -- The latest effective expiry of an envelope in it, 0 without one.
    latest INTEGER NOT NULL DEFAULT 0,
    -- Whether it is being removed.
    gone INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX logs_of_mailbox ON logs (mailbox);

-- Blocks that a log needs and that are no entries of it: its manifest, identities, roots. A block goes with its last log;
-- log 0 is for blocks that stay.
CREATE TABLE companions (
    block INTEGER NOT NULL,
    log INTEGER NOT NULL,
    PRIMARY KEY (block, log)
) STRICT, WITHOUT ROWID;
CREATE INDEX companions_of_log ON companions (log);

-- Entries, under the numbers of their blocks.
CREATE TABLE entries (
    number INTEGER PRIMARY KEY,
    log INTEGER NOT NULL,
    digest BLOB NOT NULL,
    -- The time of its clock where that is one, else 0.
    time INTEGER NOT NULL,
    -- The id of its clock.
    clock TEXT NOT NULL,
    -- 0: its identity is not here; 1: its signature holds; 2: so do those of all its ancestors, it is joined.
    state INTEGER NOT NULL,
    -- Joined, and no joined entry names it in `next`.
    head INTEGER NOT NULL,
    -- The links in `next`, one after the other.
    next BLOB NOT NULL,
    -- What it waits for: its identity, or the first of its links that is not joined.
    waits_for BLOB,
    -- The links behind that one, which are looked at when that one is joined.
    rest BLOB
) STRICT;
-- All of a set, in its order, without the table.
CREATE INDEX entries_in_order ON entries (log, time, digest, state);
CREATE INDEX heads ON entries (log, time, digest) WHERE head = 1;
CREATE INDEX who_waits ON entries (waits_for) WHERE waits_for IS NOT NULL;

-- What somebody waits for and that is not here: when it is worth another try, and how often it was tried.
CREATE TABLE missing (
    log INTEGER NOT NULL,
    cid BLOB NOT NULL,
    due INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (log, cid)
) STRICT, WITHOUT ROWID;
CREATE INDEX missing_in_order ON missing (log, due);

-- Entries that are joined, while those that wait for them were not looked at yet.
CREATE TABLE postponed (
    log INTEGER NOT NULL,
    cid BLOB NOT NULL,
    PRIMARY KEY (log, cid)
) STRICT, WITHOUT ROWID;

-- Mail, in the order in which it was found; a number is never given twice.
CREATE TABLE envelopes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    log INTEGER NOT NULL,
    mailbox BLOB NOT NULL,
    expires INTEGER NOT NULL,
    -- Whether an entry brought it whose signature holds, so that others can get it here.
    sound INTEGER NOT NULL,
    -- The SHA-256 of the entry that brought it: the first that is sound, if any is.
    digest BLOB NOT NULL,
    json TEXT NOT NULL
) STRICT;
CREATE INDEX envelopes_of_mailbox ON envelopes (mailbox, seq);
CREATE INDEX envelopes_of_log ON envelopes (log);
