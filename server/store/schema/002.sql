-- The registry with dates: each row of it while it was valid, newest last.
ALTER TABLE sites ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE sites ADD COLUMN access_points TEXT NOT NULL DEFAULT '[]';
CREATE TABLE site_terms (
    site TEXT NOT NULL,
    valid_from REAL NOT NULL,
    valid_to REAL,
    body BLOB NOT NULL,
    PRIMARY KEY (site, valid_from)
) WITHOUT ROWID;

-- Contract terms with dates, announced work, rules: JSON bodies, versions kept.
CREATE TABLE contracts (
    id TEXT NOT NULL,
    valid_from REAL NOT NULL,
    version INTEGER NOT NULL,
    at REAL NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (id, valid_from, version)
) WITHOUT ROWID;
CREATE TABLE maintenances (
    id TEXT PRIMARY KEY,
    from_at REAL NOT NULL,
    to_at REAL NOT NULL,
    body BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE rules (version INTEGER PRIMARY KEY, at REAL NOT NULL, text TEXT NOT NULL);

-- What the readings say of the past: spans that do not overlap; 0 up, 1 failing, 2 silent.
CREATE TABLE spans (
    site TEXT NOT NULL,
    from_at REAL NOT NULL,
    to_at REAL NOT NULL,
    code INTEGER NOT NULL,
    PRIMARY KEY (site, from_at)
) WITHOUT ROWID;

-- What people said of incidents; `version` of meta tells ingest of it.
CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    incident TEXT NOT NULL,
    at REAL NOT NULL,
    who TEXT NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX notes_incident ON notes (incident);

-- What the centre itself saw of a site's address: spans of answering and of silence.
CREATE TABLE witnessed (
    site TEXT NOT NULL,
    from_at REAL NOT NULL,
    to_at REAL NOT NULL,
    answered INTEGER NOT NULL,
    PRIMARY KEY (site, from_at)
) WITHOUT ROWID;
