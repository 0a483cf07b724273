-- The outbox, version 1. One table a lane, so that neither ever scans the other's backlog.
-- Numbers run through both without a gap and are never used twice.

CREATE TABLE emergency (
    number INTEGER PRIMARY KEY,
    row    BLOB NOT NULL
);

CREATE TABLE routine (
    number INTEGER PRIMARY KEY,
    row    BLOB NOT NULL
);

-- last_number: the highest number given out. removed: how many of them are in no lane any more.
-- So last_number - removed rows must be there: what is missing was lost, and is counted.
CREATE TABLE ledger (
    one                 INTEGER PRIMARY KEY CHECK (one = 1),
    last_number         INTEGER NOT NULL,
    removed             INTEGER NOT NULL,
    delivered_emergency INTEGER NOT NULL,
    delivered_routine   INTEGER NOT NULL,
    damaged             INTEGER NOT NULL,
    lost                INTEGER NOT NULL
);
INSERT INTO ledger VALUES (1, 0, 0, 0, 0, 0, 0);

CREATE TABLE dead (
    number INTEGER PRIMARY KEY,
    lane   TEXT NOT NULL,
    row    BLOB NOT NULL,
    reason TEXT NOT NULL,
    at_ms  INTEGER NOT NULL
);

-- closed_number: set once the epoch is too old to be in use; no entry above it was sealed with it.
CREATE TABLE envelopes (
    epoch         BLOB PRIMARY KEY,
    created_ms    INTEGER NOT NULL,
    message       BLOB NOT NULL,
    delivered     INTEGER NOT NULL DEFAULT 0,
    closed_number INTEGER
) WITHOUT ROWID;

-- Keys of delivered entries, 16 bytes each, one row a settlement; number is the highest of them.
CREATE TABLE delivered_keys (
    id     INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    keys   BLOB NOT NULL
);

CREATE TABLE alarms (
    id         BLOB PRIMARY KEY,
    sealed     BLOB NOT NULL,
    updated_ms INTEGER NOT NULL
) WITHOUT ROWID;
