"""A mutation fuzzer over every topic that ingest and agent read; see `bench.fuzzing.__main__`."""
