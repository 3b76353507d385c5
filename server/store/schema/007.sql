-- Sites whose ended outages are looked at again, once nothing more came since `at`.
CREATE TABLE unsettled (
    site TEXT PRIMARY KEY,
    from_at REAL NOT NULL,
    to_at REAL NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;
