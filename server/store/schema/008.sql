-- How far `through` and `beyond` of a stream tell of its readings: a number of ranges at most.
ALTER TABLE streams ADD COLUMN known_to INTEGER NOT NULL DEFAULT 9223372036854775807;
