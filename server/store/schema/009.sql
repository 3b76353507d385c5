-- Streams with a hole: few of all that there ever were.
CREATE INDEX streams_with_a_hole ON streams (site) WHERE beyond != '[]';
