-- How long a boot had lasted when its beginning was told: an uptime may run slow since. 0: unknown.
ALTER TABLE boots ADD COLUMN uptime_s REAL NOT NULL DEFAULT 0;
