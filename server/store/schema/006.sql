-- Alerts that stood before incidents knew whether theirs does; and who a group covers.
UPDATE incidents SET body = CAST(json_set(CAST(body AS TEXT), '$.told', json('true')) AS BLOB)
    WHERE resolved_at IS NULL AND covered IS NULL;
CREATE INDEX incidents_covered ON incidents (covered) WHERE covered IS NOT NULL;
