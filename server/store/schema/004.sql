-- The span of up that still grows with each reading of a site; `spans` holds all others.
ALTER TABLE health ADD COLUMN up_from REAL;
ALTER TABLE health ADD COLUMN up_to REAL;
