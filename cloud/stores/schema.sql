-- The cloud store's database, version 1. Nothing in it can be read without a recipient's key:
-- `message` and `record` are COSE, `patient` is a pseudonym.

CREATE TABLE epochs (
    id         BLOB PRIMARY KEY,
    gateway    TEXT NOT NULL,
    patient    BLOB NOT NULL,
    lane       TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    message    BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Who may open which epoch, as its signed envelope says.
CREATE TABLE epoch_readers (
    kid   BLOB NOT NULL,
    epoch BLOB NOT NULL REFERENCES epochs (id),
    PRIMARY KEY (kid, epoch)
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: a cursor is never used twice, so that a reader can go on where it stopped.
CREATE TABLE records (
    cursor      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          BLOB NOT NULL UNIQUE,
    gateway     TEXT NOT NULL,
    patient     BLOB NOT NULL,
    lane        TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    epoch       BLOB NOT NULL REFERENCES epochs (id),
    record      BLOB NOT NULL
) STRICT;

CREATE INDEX records_patient ON records (patient, cursor);

-- Emergencies are few among many: their listeners must not read past everything routine.
CREATE INDEX records_lane ON records (lane, cursor);

CREATE TABLE acknowledgements (
    cursor  INTEGER PRIMARY KEY AUTOINCREMENT,
    alarm   BLOB NOT NULL UNIQUE REFERENCES records (id),
    gateway TEXT NOT NULL,
    name    TEXT NOT NULL,
    role    TEXT NOT NULL,
    at_ms   INTEGER NOT NULL
) STRICT;

CREATE INDEX acknowledgements_gateway ON acknowledgements (gateway, cursor);
