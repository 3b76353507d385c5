-- Who went in the same minutes, without reading the incidents themselves.
CREATE INDEX incidents_went ON incidents (kind, opened_at, site);
