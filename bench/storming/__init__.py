"""What a fleet does to broker and ingest when all of it wants something at once."""
