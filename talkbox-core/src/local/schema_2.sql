-- Version 2: drafts to mailboxes that have not been found yet. `sender` is one's own mailbox whose key it takes to seal
-- one, NULL for a throw-away key; `reason` stands where it was given up; `sealed` is the draft, to whom, and how.
CREATE TABLE drafts (
    id         BLOB    PRIMARY KEY,
    sender     BLOB,
    created_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    next_try   INTEGER,
    reason     TEXT,
    sealed     BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX drafts_due ON drafts (next_try) WHERE next_try IS NOT NULL;

-- Copies of what one sent oneself, which are no mail.
ALTER TABLE messages ADD COLUMN sent INTEGER NOT NULL DEFAULT 0;

-- Messages are in order within a second, too: `sort_time` is in milliseconds.
UPDATE messages SET sort_time = sort_time * 1000;
