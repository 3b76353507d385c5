-- What availability asks of all outages at once: their cause, and the group that covers them.
ALTER TABLE incidents ADD COLUMN verdict TEXT
    AS (json_extract(CAST(body AS TEXT), '$.cause.verdict')) VIRTUAL;
ALTER TABLE incidents ADD COLUMN covered TEXT
    AS (json_extract(CAST(body AS TEXT), '$.group')) VIRTUAL;
CREATE INDEX incidents_outages ON incidents (site, opened_at, resolved_at, verdict, covered)
    WHERE kind = 'site_offline';
CREATE INDEX incidents_groups ON incidents (id, verdict) WHERE kind = 'group_outage';
