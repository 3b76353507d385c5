"""`pantau simulate`: its stories, its lines, its sites at a real broker, its command line."""
