-- State: one row a site, and what must outlive a restart.
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('registry_version', 0);

CREATE TABLE sites (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    district TEXT NOT NULL,
    isp TEXT NOT NULL,
    contract TEXT NOT NULL,
    latitude REAL,
    longitude REAL,
    timezone TEXT NOT NULL,
    backhaul TEXT NOT NULL,
    power_area TEXT NOT NULL,
    retired INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- What the state machine remembers (JSON), when it is due, and under which
-- district and ISP its state topic stands at the broker.
CREATE TABLE health (
    site TEXT PRIMARY KEY,
    due_at REAL,
    state BLOB NOT NULL,
    district TEXT NOT NULL,
    isp TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX health_due ON health (due_at) WHERE due_at IS NOT NULL;

-- Which sequence numbers of a stream are accounted for.
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL,
    stream TEXT NOT NULL,
    through INTEGER NOT NULL,
    beyond TEXT NOT NULL,
    lost INTEGER NOT NULL DEFAULT 0,
    UNIQUE (site, stream)
);

-- Messages as they came: a backlog's is a tenth of its readings one by one.
CREATE TABLE messages (id INTEGER PRIMARY KEY, payload BLOB NOT NULL);

-- Each reading, by its place in its message; flags: 1 time corrected, 2 time uncertain.
CREATE TABLE readings (
    id INTEGER PRIMARY KEY,
    stream_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    received_at REAL NOT NULL,
    taken_at REAL NOT NULL,
    flags INTEGER NOT NULL,
    message INTEGER NOT NULL,
    place INTEGER NOT NULL
);
CREATE UNIQUE INDEX readings_name ON readings (stream_id, seq);
CREATE INDEX readings_unsynced ON readings (stream_id) WHERE flags != 0;

-- When each of a site's last boots began by our clock: sets unsynchronised times right.
CREATE TABLE boots (
    site TEXT NOT NULL,
    boot TEXT NOT NULL,
    began_at REAL NOT NULL,
    PRIMARY KEY (site, boot)
);

-- The ledger: the newest revision of each incident, and every revision.
CREATE TABLE incidents (
    id TEXT PRIMARY KEY,
    site TEXT NOT NULL,
    kind TEXT NOT NULL,
    opened_at REAL NOT NULL,
    resolved_at REAL,
    body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX incidents_firing ON incidents (site, kind) WHERE resolved_at IS NULL;
CREATE INDEX incidents_opened ON incidents (opened_at);
CREATE TABLE revisions (
    incident TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at REAL NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (incident, revision)
) WITHOUT ROWID;

-- What still has to be published, in order; and retained topics to clear later.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    retain INTEGER NOT NULL
);
CREATE TABLE clearing (topic TEXT PRIMARY KEY, clear_at REAL NOT NULL) WITHOUT ROWID;

-- What did not decode, why, and its first bytes.
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    topic TEXT NOT NULL,
    reason TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    head BLOB NOT NULL
);

-- When we could not hear: unmeasured, charged to nobody.
CREATE TABLE absences (
    id INTEGER PRIMARY KEY,
    from_at REAL NOT NULL,
    to_at REAL NOT NULL,
    reason TEXT NOT NULL
);
