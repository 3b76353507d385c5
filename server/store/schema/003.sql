-- A version of a contract holds all of its terms, so that one number names what was agreed.
DROP TABLE contracts;
CREATE TABLE contracts (
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    at REAL NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (id, version)
) WITHOUT ROWID;

-- The sites of before the registry had dates: valid since they are first known, by their
-- earliest readings and incidents; one that was never heard from, since now.
INSERT INTO site_terms (site, valid_from, valid_to, body)
SELECT
    sites.id,
    min(
        (julianday('now') - 2440587.5) * 86400.0,
        coalesce((
            SELECT min(received_at, iif(flags = 2, received_at, taken_at))
            FROM streams JOIN readings ON readings.stream_id = streams.id
            WHERE streams.site = sites.id
              AND readings.seq = (SELECT min(seq) FROM readings WHERE stream_id = streams.id)
            ORDER BY 1 LIMIT 1
        ), 9e99),
        coalesce((SELECT min(opened_at) FROM incidents WHERE incidents.site = sites.id), 9e99)
    ),
    iif(retired, (julianday('now') - 2440587.5) * 86400.0, NULL),
    CAST(json_object(
        'id', sites.id, 'name', name, 'district', district, 'isp', isp, 'contract', contract,
        'latitude', latitude, 'longitude', longitude, 'timezone', timezone,
        'backhaul', backhaul, 'power_area', power_area, 'retired', json('false'),
        'address', address, 'access_points', json(access_points)
    ) AS BLOB)
FROM sites;
